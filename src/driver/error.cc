#include "driver/driver.h"

namespace headroom {

// Names of the results that headroom itself meets; the driver's own
// cuGetErrorName needs a bound driver and these must print without one.
const char* ErrorName(CUresult result) {
  switch (result) {
#define HEADROOM_NAME(name) \
  case name: return #name;
    HEADROOM_NAME(CUDA_SUCCESS)
    HEADROOM_NAME(CUDA_ERROR_INVALID_VALUE)
    HEADROOM_NAME(CUDA_ERROR_OUT_OF_MEMORY)
    HEADROOM_NAME(CUDA_ERROR_NOT_INITIALIZED)
    HEADROOM_NAME(CUDA_ERROR_DEINITIALIZED)
    HEADROOM_NAME(CUDA_ERROR_STUB_LIBRARY)
    HEADROOM_NAME(CUDA_ERROR_NO_DEVICE)
    HEADROOM_NAME(CUDA_ERROR_INVALID_DEVICE)
    HEADROOM_NAME(CUDA_ERROR_INVALID_CONTEXT)
    HEADROOM_NAME(CUDA_ERROR_INVALID_HANDLE)
    HEADROOM_NAME(CUDA_ERROR_NOT_FOUND)
    HEADROOM_NAME(CUDA_ERROR_NOT_READY)
    HEADROOM_NAME(CUDA_ERROR_ILLEGAL_ADDRESS)
    HEADROOM_NAME(CUDA_ERROR_NOT_PERMITTED)
    HEADROOM_NAME(CUDA_ERROR_NOT_SUPPORTED)
    HEADROOM_NAME(CUDA_ERROR_SYSTEM_NOT_READY)
    HEADROOM_NAME(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)
    HEADROOM_NAME(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
    HEADROOM_NAME(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
    HEADROOM_NAME(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)
    HEADROOM_NAME(CUDA_ERROR_UNKNOWN)
#undef HEADROOM_NAME
    default: return "another CUDA error";
  }
}

Status DriverStatus(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return Status();
  if (result == CUDA_ERROR_OUT_OF_MEMORY) return Status(Code::kOutOfMemory, what, result);
  return Status(Code::kDriver, what, result);
}

CUresult ToCuResult(const Status& status) {
  switch (status.code()) {
    case Code::kOk: return CUDA_SUCCESS;
    case Code::kOutOfMemory: return CUDA_ERROR_OUT_OF_MEMORY;
    case Code::kInvalidArgument: return CUDA_ERROR_INVALID_VALUE;
    case Code::kNotFound: return CUDA_ERROR_NOT_FOUND;
    case Code::kUnsupported: return CUDA_ERROR_NOT_SUPPORTED;
    case Code::kDriver: return static_cast<CUresult>(status.native());
    case Code::kSystem: return CUDA_ERROR_OPERATING_SYSTEM;
    case Code::kBusy: return CUDA_ERROR_NOT_READY;
  }
  return CUDA_ERROR_UNKNOWN;
}

}  // namespace headroom
