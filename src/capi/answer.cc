#include "capi/answer.h"

#include <new>

#include "base/no_memory.h"

namespace gpuroom {
namespace {

__attribute__((tls_model("initial-exec"))) thread_local const char* t_error = "";

gpuroom_result ResultOf(Code code) {
  switch (code) {
    case Code::kOk: return GPUROOM_OK;
    case Code::kOutOfMemory: return GPUROOM_OUT_OF_MEMORY;
    case Code::kInvalidArgument: return GPUROOM_INVALID_ARGUMENT;
    case Code::kNotFound: return GPUROOM_NOT_FOUND;
    case Code::kUnsupported: return GPUROOM_UNSUPPORTED;
    case Code::kBusy: return GPUROOM_BUSY;
    case Code::kDriver:
    case Code::kSystem: break;
  }
  return GPUROOM_FAILED;
}

}  // namespace

gpuroom_result Answer(const Status& status) {
  t_error = status.what();
  return ResultOf(status.code());
}

void ClearError() { t_error = ""; }

gpuroom_result AnswerException(const std::exception& error) {
  const bool memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
  return Answer(memory ? NoMemory() : Status(Code::kSystem, "a call that gpuroom makes failed"));
}

}  // namespace gpuroom

extern "C" __attribute__((visibility("default"))) const char* gpuroom_last_error(void) {
  return gpuroom::t_error;
}
