#include <atomic>

#include "base/log.h"
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
    GPUROOM_NAME(CUDA_ERROR_DEVICE_UNAVAILABLE)
    GPUROOM_NAME(CUDA_ERROR_NO_DEVICE)
    GPUROOM_NAME(CUDA_ERROR_INVALID_DEVICE)
    GPUROOM_NAME(CUDA_ERROR_INVALID_CONTEXT)
    GPUROOM_NAME(CUDA_ERROR_INVALID_HANDLE)
    GPUROOM_NAME(CUDA_ERROR_NOT_FOUND)
    GPUROOM_NAME(CUDA_ERROR_NOT_READY)
    GPUROOM_NAME(CUDA_ERROR_ILLEGAL_ADDRESS)
    GPUROOM_NAME(CUDA_ERROR_NOT_PERMITTED)
    GPUROOM_NAME(CUDA_ERROR_NOT_SUPPORTED)
    GPUROOM_NAME(CUDA_ERROR_OPERATING_SYSTEM)
    GPUROOM_NAME(CUDA_ERROR_SYSTEM_NOT_READY)
    GPUROOM_NAME(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)
    GPUROOM_NAME(CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE)
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

bool RefusesMemory(CUresult result) {
  switch (result) {
    case CUDA_SUCCESS:
    case CUDA_ERROR_NOT_INITIALIZED:
    case CUDA_ERROR_DEINITIALIZED:
    case CUDA_ERROR_STUB_LIBRARY:
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_INVALID_CONTEXT:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_MPS_CONNECTION_FAILED:
    case CUDA_ERROR_MPS_RPC_FAILURE:
    case CUDA_ERROR_MPS_SERVER_NOT_READY:
    case CUDA_ERROR_MPS_CLIENT_TERMINATED:
    case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED:
    case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
    case CUDA_ERROR_STREAM_CAPTURE_IMPLICIT: return false;
    default: return true;
  }
}

CUresult AllocationResult(const Status& status) {
  const CUresult plain = ToCuResult(status);
  if (!RefusesMemory(plain)) return plain;
  static std::atomic<int> told{CUDA_SUCCESS};
  const int why = status.native() != 0 ? status.native() : plain;
  if (why != CUDA_ERROR_OUT_OF_MEMORY && told.exchange(why) != why) {
    Log(LogLevel::kWarn, "memory could not be made (%s: %s, %d); the program is told that there is none left",
        status.what(), ErrorName(static_cast<CUresult>(why)), why);
  }
  return CUDA_ERROR_OUT_OF_MEMORY;
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
