#include "driver/driver.h"

namespace gpuroom {

// Names of the results that gpuroom itself meets; the driver's own
// cuGetErrorName needs a bound driver and these must print without one.
const char* ErrorName(CUresult result) {
  switch (result) {
#define GPUROOM_NAME(name) \
  case name: return #name;
    GPUROOM_NAME(CUDA_SUCCESS)
    GPUROOM_NAME(CUDA_ERROR_INVALID_VALUE)
    GPUROOM_NAME(CUDA_ERROR_OUT_OF_MEMORY)
    GPUROOM_NAME(CUDA_ERROR_NOT_INITIALIZED)
    GPUROOM_NAME(CUDA_ERROR_DEINITIALIZED)
    GPUROOM_NAME(CUDA_ERROR_STUB_LIBRARY)
    GPUROOM_NAME(CUDA_ERROR_NO_DEVICE)
    GPUROOM_NAME(CUDA_ERROR_INVALID_DEVICE)
    GPUROOM_NAME(CUDA_ERROR_INVALID_CONTEXT)
    GPUROOM_NAME(CUDA_ERROR_INVALID_HANDLE)
    GPUROOM_NAME(CUDA_ERROR_NOT_FOUND)
    GPUROOM_NAME(CUDA_ERROR_NOT_READY)
    GPUROOM_NAME(CUDA_ERROR_ILLEGAL_ADDRESS)
    GPUROOM_NAME(CUDA_ERROR_NOT_PERMITTED)
    GPUROOM_NAME(CUDA_ERROR_NOT_SUPPORTED)
    GPUROOM_NAME(CUDA_ERROR_SYSTEM_NOT_READY)
    GPUROOM_NAME(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)
    GPUROOM_NAME(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)
    GPUROOM_NAME(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
    GPUROOM_NAME(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)
    GPUROOM_NAME(CUDA_ERROR_UNKNOWN)
#undef GPUROOM_NAME
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

}  // namespace gpuroom
