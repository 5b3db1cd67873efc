#include "capi/answer.h"

namespace headroom {
namespace {

__attribute__((tls_model("initial-exec"))) thread_local const char* t_error = "";

headroom_result ResultOf(Code code) {
  switch (code) {
    case Code::kOk: return HEADROOM_OK;
    case Code::kOutOfMemory: return HEADROOM_OUT_OF_MEMORY;
    case Code::kInvalidArgument: return HEADROOM_INVALID_ARGUMENT;
    case Code::kNotFound: return HEADROOM_NOT_FOUND;
    case Code::kUnsupported: return HEADROOM_UNSUPPORTED;
    case Code::kBusy: return HEADROOM_BUSY;
    case Code::kDriver:
    case Code::kSystem: break;
  }
  return HEADROOM_FAILED;
}

}  // namespace

headroom_result Answer(const Status& status) {
  t_error = status.what();
  return ResultOf(status.code());
}

void ClearError() { t_error = ""; }

}  // namespace headroom

extern "C" __attribute__((visibility("default"))) const char* headroom_last_error(void) {
  return headroom::t_error;
}
