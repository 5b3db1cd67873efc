#include "base/status.h"

namespace gpuroom {

const char* CodeName(Code code) {
  switch (code) {
    case Code::kOk: return "ok";
    case Code::kOutOfMemory: return "out_of_memory";
    case Code::kInvalidArgument: return "invalid_argument";
    case Code::kNotFound: return "not_found";
    case Code::kUnsupported: return "unsupported";
    case Code::kDriver: return "driver_error";
    case Code::kSystem: return "system_error";
    case Code::kBusy: return "busy";
  }
  return "unknown";
}

}  // namespace gpuroom
