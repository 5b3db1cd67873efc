// Devices, texts, waiting, and copies.
#include <cstring>

#include "state.h"

namespace sim = gpuroom::hip_sim;

HIP_SIM_API const char* hipGetErrorString(hipError_t error) {
  switch (error) {
    case hipSuccess: return "no error";
    case hipErrorInvalidValue: return "invalid argument";
    case hipErrorOutOfMemory: return "out of memory";
    case hipErrorInvalidDevice: return "invalid device ordinal";
    case hipErrorIllegalAddress: return "an illegal memory access was encountered";
    case hipErrorNotSupported: return "operation not supported";
    case hipErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return "unknown error";
  }
}

HIP_SIM_API hipError_t hipGetDeviceCount(int* count) {
  HIP_SIM_ENTER(hipGetDeviceCount);
  *count = sim::kDevices;
  return hipSuccess;
}

HIP_SIM_API hipError_t hipGetDevice(int* device) {
  HIP_SIM_ENTER(hipGetDevice);
  *device = sim::CurrentDevice();
  return hipSuccess;
}

HIP_SIM_API hipError_t hipSetDevice(int device) {
  HIP_SIM_ENTER(hipSetDevice);
  if (device < 0 || device >= sim::kDevices) return hipErrorInvalidDevice;
  sim::CurrentDevice() = device;
  return hipSuccess;
}

HIP_SIM_API hipError_t hipDeviceSynchronize() {
  HIP_SIM_ENTER(hipDeviceSynchronize);
  return state.capturing ? hipErrorStreamCaptureUnsupported : hipSuccess;
}

namespace {

// Each address is the host's, or lies in mappings that the thread's device may touch.
bool MayTouch(const void* at, size_t bytes) {
  auto& state = sim::GetState();
  const auto address = reinterpret_cast<uint64_t>(at);
  auto reserved = state.reservations.upper_bound(address);
  if (reserved == state.reservations.begin()) return true;
  --reserved;
  if (address - reserved->first >= reserved->second) return true;
  for (uint64_t done = 0; done < bytes;) {
    uint64_t start = 0;
    const sim::Mapping* mapping = sim::FindMapping(address + done, &start);
    if (mapping == nullptr || mapping->access[sim::CurrentDevice()] != 3) return false;
    done = start + mapping->bytes - address;
  }
  return true;
}

}  // namespace

HIP_SIM_API hipError_t hipMemcpy(void* to, const void* from, size_t bytes, int) {
  HIP_SIM_ENTER(hipMemcpy);
  if (!MayTouch(to, bytes) || !MayTouch(from, bytes)) {
    return sim::Misuse("hipMemcpy of what is not mapped for this device", hipErrorIllegalAddress);
  }
  std::memcpy(to, from, bytes);
  return hipSuccess;
}
