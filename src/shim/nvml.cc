#include "shim/nvml.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>

#include "runtime/runtime.h"
#include "shim/real.h"

namespace gpuroom {
namespace {

// The few declarations of nvml.h that are needed; that header is no part of the
// CUDA driver's. Layouts: NVML API reference, nvmlMemory_t and nvmlMemory_v2_t.
using NvmlDevice = struct NvmlDeviceOpaque*;
using NvmlResult = int;
constexpr NvmlResult kNvmlSuccess = 0;
constexpr NvmlResult kNvmlFunctionNotFound = 13;
constexpr NvmlResult kNvmlUnknown = 999;

struct NvmlMemory {
  unsigned long long total, free, used;  // bytes
};
struct NvmlMemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;  // bytes
};
static_assert(sizeof(NvmlMemory) == 24 && sizeof(NvmlMemoryV2) == 40);

template <typename Function>
Function RealNvml(const char* symbol) {
  return reinterpret_cast<Function>(NvmlSymbol(symbol));
}

// NVML writes a GPU as "GPU-8a4f...": the CUDA driver's UUID in hexadecimal.
bool SameUuid(const char* text, const CUuuid& uuid) {
  unsigned char b[16];
  std::memcpy(b, uuid.bytes, sizeof b);
  char expected[64];
  std::snprintf(expected, sizeof expected,
                "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
                b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
  return std::strcmp(text, expected) == 0;
}

// The device that this process already uses and NVML calls `device`; null when it
// uses none or another.
const DeviceState* FindDevice(const Runtime& rt, NvmlDevice device) {
  static const auto get_uuid = RealNvml<NvmlResult (*)(NvmlDevice, char*, unsigned)>("nvmlDeviceGetUUID");
  char text[96] = {};
  if (get_uuid == nullptr || get_uuid(device, text, sizeof text) != kNvmlSuccess) return nullptr;
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    const DeviceState* state = rt.ExistingDevice(i);
    if (state != nullptr && SameUuid(text, state->uuid)) return state;
  }
  return nullptr;
}

struct Sizes {
  unsigned long long total, free;
};

Sizes Enlarge(Runtime& rt, NvmlDevice device, Sizes real) {
  if (const DeviceState* state = FindDevice(rt, device)) {
    return {state->VisibleTotal(real.total), state->VisibleFree(real.free)};
  }
  const uint64_t limit = std::min<uint64_t>(rt.options.hbm_limit, real.total);
  if (rt.options.backend == Backend::kManaged) {
    // Whether it is coherent is not known before the driver was asked: the smaller cap.
    const uint64_t cap = CapOf(rt.options.managed, {limit, rt.options.host_limit, false}).bytes;
    return {cap, std::min<uint64_t>(cap, real.free)};
  }
  return {limit + rt.options.host_limit, std::min<uint64_t>(limit, real.free) + rt.HostUnclaimed()};
}

}  // namespace
}  // namespace gpuroom

using namespace gpuroom;

extern "C" {

NvmlResult nvmlDeviceGetMemoryInfo(NvmlDevice device, NvmlMemory* memory) try {
  static const auto real = RealNvml<NvmlResult (*)(NvmlDevice, NvmlMemory*)>("nvmlDeviceGetMemoryInfo");
  if (real == nullptr) return kNvmlFunctionNotFound;
  const NvmlResult result = real(device, memory);
  Entry rt;
  if (!rt || result != kNvmlSuccess) return result;
  const Sizes sizes = Enlarge(*rt, device, {memory->total, memory->free});
  *memory = {sizes.total, sizes.free, sizes.total - sizes.free};
  return result;
} catch (const std::exception&) {
  return kNvmlUnknown;
}

NvmlResult nvmlDeviceGetMemoryInfo_v2(NvmlDevice device, NvmlMemoryV2* memory) try {
  static const auto real = RealNvml<NvmlResult (*)(NvmlDevice, NvmlMemoryV2*)>("nvmlDeviceGetMemoryInfo_v2");
  if (real == nullptr) return kNvmlFunctionNotFound;
  const NvmlResult result = real(device, memory);
  Entry rt;
  if (!rt || result != kNvmlSuccess) return result;
  // What the driver reserves for itself lies outside a limited device.
  const Sizes sizes = Enlarge(*rt, device, {memory->total, memory->free});
  if (rt->options.hbm_limit < memory->total) memory->reserved = 0;
  memory->total = sizes.total;
  memory->free = sizes.free;
  memory->used = sizes.total - sizes.free - memory->reserved;
  return result;
} catch (const std::exception&) {
  return kNvmlUnknown;
}

}  // extern "C"

namespace gpuroom {

void* NvmlHook(const char* symbol) {
  if (std::strcmp(symbol, "nvmlDeviceGetMemoryInfo") == 0)
    return reinterpret_cast<void*>(nvmlDeviceGetMemoryInfo);
  if (std::strcmp(symbol, "nvmlDeviceGetMemoryInfo_v2") == 0) {
    return reinterpret_cast<void*>(nvmlDeviceGetMemoryInfo_v2);
  }
  return nullptr;
}

}  // namespace gpuroom
