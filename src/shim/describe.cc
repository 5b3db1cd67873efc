#include "headroom/headroom.h"
#include "shim/runtime.h"

extern "C" __attribute__((visibility("default"))) int headroom_describe(uint64_t address, headroom_placement* out) {
  const headroom::shim::Runtime* rt = headroom::shim::Runtime::Existing();
  headroom::RangeInfo range;
  if (rt == nullptr || out == nullptr || !rt->ranges.Find(address, &range)) return -1;
  *out = {range.va, range.bytes, range.bytes - range.host_bytes, range.host_bytes, range.device, 0};
  return 0;
}
