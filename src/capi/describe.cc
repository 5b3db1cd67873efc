#include <exception>

#include "capi/answer.h"
#include "capi/sized.h"
#include "gpuroom/gpuroom.h"
#include "runtime/runtime.h"

using gpuroom::AnswerException;
using gpuroom::Entry;
using gpuroom::HandleTable;

extern "C" __attribute__((visibility("default"))) int gpuroom_describe(uint64_t address,
                                                                       gpuroom_placement* out,
                                                                       size_t bytes) try {
  Entry rt;
  if (!rt || out == nullptr) return -1;
  gpuroom::RangeInfo range;
  HandleTable::MappingInfo mapping;
  bool imported = false;
  if (rt->FindRange(address, &range, &imported)) {
    mapping = {range.va,         range.bytes,  0,          range.host_bytes,
               range.peer_bytes, range.device, range.hint, range.asleep};
  } else if (!rt->handles.FindMapping(address, &mapping)) {
    return -1;
  }
  const gpuroom_placement placement = {
      mapping.va,
      mapping.bytes,
      mapping.asleep ? 0 : mapping.bytes - mapping.host_bytes - mapping.peer_bytes,
      mapping.peer_bytes,
      mapping.host_bytes,
      mapping.device,
      static_cast<int32_t>(mapping.hint)};
  gpuroom::Fill(out, bytes, placement);
  return 0;
} catch (const std::exception& error) {
  AnswerException(error);
  return -1;
}
