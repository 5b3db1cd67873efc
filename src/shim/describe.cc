#include "headroom/headroom.h"
#include "shim/runtime.h"

using headroom::shim::HandleTable;
using headroom::shim::Runtime;

extern "C" __attribute__((visibility("default"))) int headroom_describe(uint64_t address,
                                                                        headroom_placement* out) {
  Runtime* rt = Runtime::Existing();
  if (rt == nullptr || out == nullptr) return -1;
  headroom::RangeInfo range;
  HandleTable::MappingInfo mapping;
  if (rt->ranges.Find(address, &range)) {
    *out = {range.va,
            range.bytes,
            range.bytes - range.host_bytes - range.peer_bytes,
            range.peer_bytes,
            range.host_bytes,
            range.device,
            0};
  } else if (rt->handles.FindMapping(address, &mapping)) {
    *out = {mapping.va, mapping.bytes,      mapping.bytes - mapping.host_bytes,
            0,          mapping.host_bytes, mapping.device,
            0};
  } else {
    return -1;
  }
  return 0;
}
