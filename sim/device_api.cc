// cuInit, the driver's version and texts, and what devices there are.
#include <cstdio>
#include <cstring>
#include <optional>

#include "device_names.h"
#include "entry.h"
#include "error_names.h"

namespace gpuroom::sim {
namespace {

// The figures of an H200 where a profile has none of its own.
std::optional<int> FixedAttribute(CUdevice_attribute attribute) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X: return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: return 64;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: return 2147483647;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y: return 65535;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: return 65535;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: return 49152;
    case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY: return 65536;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: return 32;
    case CU_DEVICE_ATTRIBUTE_MAX_PITCH: return 2147483647;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK: return 65536;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: return 1980000;
    case CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT: return 512;
    case CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT: return 32;
    case CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT: return 512;
    case CU_DEVICE_ATTRIBUTE_GPU_OVERLAP: return 1;
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY: return 1;
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS: return 1;
    case CU_DEVICE_ATTRIBUTE_ECC_ENABLED: return 1;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: return 62914560;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: return 2048;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR: return 32;
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: return 3;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: return 1;
    case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: return 233472;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: return 232448;
    case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK: return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: return 65536;
    case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY: return 1;
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS: return 1;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM: return 1;
    case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED: return 1;
    // Said to be supported, though cuMemCreate then does not permit it.
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES: return 1;
    case CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_HOST_NUMA_MEMORY_POOLS_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_HOST_MEMORY_POOLS_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH: return 1;
    case CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH: return 1;
    case CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED: return 1;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS: return 1;
    case CU_DEVICE_ATTRIBUTE_SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO: return 2;
    default: return std::nullopt;
  }
}

int Attribute(const Profile& profile, CUdevice_attribute attribute, int number) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: return profile.multiprocessors;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return profile.compute_major;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return profile.compute_minor;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: return profile.integrated;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: return profile.memory_clock_khz;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: return profile.memory_bus_bits;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID: return static_cast<int>(PciBusOf(number));
    case CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS:
    case CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES:
    case CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST:
    case CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED: return profile.coherent;
    case CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID: return number * profile.nodes / profile.devices;
    case CU_DEVICE_ATTRIBUTE_NUMA_CONFIG: return CU_DEVICE_NUMA_CONFIG_NONE;
    case CU_DEVICE_ATTRIBUTE_NUMA_ID: return -1;
    default: return FixedAttribute(attribute).value_or(0);
  }
}

// Among all of the machine's GPUs.
int NumberOf(Guard& guard, int ordinal) { return guard.state().devices[static_cast<size_t>(ordinal)].number; }

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;

SIM_API cuInit(unsigned int flags) {
  SIM_ENTER(cuInit, kNothing);
  auto& state = guard.state();
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (!state.profile_error.empty()) {
    std::fprintf(stderr, "%s\n", state.profile_error.c_str());
    return CUDA_ERROR_NO_DEVICE;
  }
  if (state.initialized) return CUDA_SUCCESS;
  const CUresult result = state.FindDevices();
  state.initialized = result == CUDA_SUCCESS;
  return result;
}

SIM_API cuDriverGetVersion(int* version) {
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *version = gpuroom::sim::GetState().profile.driver;
  return CUDA_SUCCESS;
}

SIM_API cuGetErrorName(CUresult error, const char** text) {
  if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *text = gpuroom::sim::ResultName(error);
  return *text != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SIM_API cuGetErrorString(CUresult error, const char** text) {
  if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *text = gpuroom::sim::ResultText(error);
  return *text != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SIM_API cuDeviceGetCount(int* count) {
  SIM_ENTER(cuDeviceGetCount, kInit);
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *count = static_cast<int>(guard.state().devices.size());
  return CUDA_SUCCESS;
}

SIM_API cuDeviceGet(CUdevice* device, int ordinal) {
  SIM_ENTER(cuDeviceGet, kInit);
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!guard.state().IsDevice(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

SIM_API cuDeviceGetName(char* name, int length, CUdevice device) {
  SIM_ENTER(cuDeviceGetName, kInit);
  if (name == nullptr || length <= 0) return CUDA_ERROR_INVALID_VALUE;
  if (!guard.state().IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  std::snprintf(name, static_cast<size_t>(length), "%s", guard.state().profile.name.c_str());
  return CUDA_SUCCESS;
}

SIM_API cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  SIM_ENTER(cuDeviceGetUuid, kInit);
  if (uuid == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!guard.state().IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  const auto bytes = sim::UuidOf(sim::NumberOf(guard, device));
  std::memcpy(uuid->bytes, bytes.data(), bytes.size());
  return CUDA_SUCCESS;
}

SIM_API cuDeviceGetUuid(CUuuid* uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }

SIM_API cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  SIM_ENTER(cuDeviceTotalMem, kInit);
  if (bytes == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!guard.state().IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  *bytes = guard.state().profile.hbm;
  return CUDA_SUCCESS;
}

SIM_API cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  SIM_ENTER(cuDeviceGetAttribute, kInit);
  if (value == nullptr || attribute <= 0 || attribute >= CU_DEVICE_ATTRIBUTE_MAX)
    return CUDA_ERROR_INVALID_VALUE;
  if (!guard.state().IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  *value = sim::Attribute(guard.state().profile, attribute, sim::NumberOf(guard, device));
  return CUDA_SUCCESS;
}

SIM_API cuDeviceGetPCIBusId(char* text, int length, CUdevice device) {
  SIM_ENTER(cuDeviceGetPCIBusId, kInit);
  if (text == nullptr || length < 13) return CUDA_ERROR_INVALID_VALUE;
  if (!guard.state().IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  std::snprintf(text, static_cast<size_t>(length), "0000:%02X:00.0",
                sim::PciBusOf(sim::NumberOf(guard, device)));
  return CUDA_SUCCESS;
}

SIM_API cuDeviceGetByPCIBusId(CUdevice* device, const char* text) {
  SIM_ENTER(cuDeviceGetByPCIBusId, kInit);
  if (device == nullptr || text == nullptr) return CUDA_ERROR_INVALID_VALUE;
  unsigned domain = 0;
  unsigned bus = 0;
  if (std::sscanf(text, "%x:%x", &domain, &bus) != 2) return CUDA_ERROR_INVALID_VALUE;
  const int ordinal = guard.state().OrdinalOf(sim::NumberOnBus(domain, bus));
  if (ordinal < 0) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

SIM_API cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  SIM_ENTER(cuDeviceCanAccessPeer, kInit);
  auto& state = guard.state();
  if (can == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!state.IsDevice(device) || !state.IsDevice(peer)) return CUDA_ERROR_INVALID_DEVICE;
  *can = device != peer && state.Linked(device, peer);
  return CUDA_SUCCESS;
}

SIM_API cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute attribute, CUdevice from, CUdevice to) {
  SIM_ENTER(cuDeviceGetP2PAttribute, kInit);
  auto& state = guard.state();
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!state.IsDevice(from) || !state.IsDevice(to) || from == to) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  const bool nvlink = state.profile.peer == gpuroom::sim::PeerLink::kNvlink;
  switch (attribute) {
    case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK: *value = nvlink ? 0 : 1; return CUDA_SUCCESS;
    case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED: *value = state.Linked(from, to); return CUDA_SUCCESS;
    case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
    case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED: *value = nvlink; return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

SIM_API cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
  SIM_ENTER(cuDeviceComputeCapability, kInit);
  if (major == nullptr || minor == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!guard.state().IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  *major = guard.state().profile.compute_major;
  *minor = guard.state().profile.compute_minor;
  return CUDA_SUCCESS;
}

// The tables behind this are private to NVIDIA's own runtime libraries.
SIM_API cuGetExportTable(const void** table, const CUuuid*) {
  if (table == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *table = nullptr;
  return CUDA_ERROR_NOT_FOUND;
}
