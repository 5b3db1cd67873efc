// Managed memory: ordinary pages that host and devices both use. Advice and
// prefetches are remembered for the whole allocation and change nothing else.
#include <sys/mman.h>

#include <cstring>

#include "alloc.h"
#include "copy.h"
#include "entry.h"
#include "stream.h"

namespace gpuroom::sim {
namespace {

bool IsLocation(const State& state, const CUmemLocation& location) {
  switch (location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE: return state.IsDevice(location.id);
    case CU_MEM_LOCATION_TYPE_HOST:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT: return true;
    case CU_MEM_LOCATION_TYPE_HOST_NUMA: return location.id >= 0 && location.id < state.profile.nodes;
    default: return false;
  }
}

CUmemLocation OldLocation(CUdevice device) {
  CUmemLocation location{};
  location.type = device == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE;
  location.id = device == CU_DEVICE_CPU ? 0 : device;
  return location;
}

Region* Managed(State& state, CUdeviceptr address, size_t bytes) {
  Region* region = state.va.Find(address);
  if (region == nullptr || region->kind != RegionKind::kManaged || bytes == 0) return nullptr;
  return bytes <= region->end() - address ? region : nullptr;
}

CUresult Advise(State& state, CUdeviceptr address, size_t bytes, CUmem_advise advice,
                const CUmemLocation& location) {
  Region* region = Managed(state, address, bytes);
  if (region == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const bool placed = advice == CU_MEM_ADVISE_SET_PREFERRED_LOCATION ||
                      advice == CU_MEM_ADVISE_SET_ACCESSED_BY || advice == CU_MEM_ADVISE_UNSET_ACCESSED_BY;
  if (placed && !IsLocation(state, location)) return CUDA_ERROR_INVALID_DEVICE;
  const auto accessor = location.type == CU_MEM_LOCATION_TYPE_DEVICE ? static_cast<size_t>(location.id)
                                                                     : static_cast<size_t>(kMaxDevices);
  switch (advice) {
    case CU_MEM_ADVISE_SET_READ_MOSTLY: region->read_mostly = true; break;
    case CU_MEM_ADVISE_UNSET_READ_MOSTLY: region->read_mostly = false; break;
    case CU_MEM_ADVISE_SET_PREFERRED_LOCATION: region->preferred = location; break;
    case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
      region->preferred = CUmemLocation{CU_MEM_LOCATION_TYPE_INVALID, {0}};
      break;
    case CU_MEM_ADVISE_SET_ACCESSED_BY: region->accessed_by[accessor] = true; break;
    case CU_MEM_ADVISE_UNSET_ACCESSED_BY: region->accessed_by[accessor] = false; break;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult Prefetch(State& state, CUdeviceptr address, size_t bytes, const CUmemLocation& location,
                  CUstream handle) {
  Region* region = Managed(state, address, bytes);
  if (region == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!IsLocation(state, location)) return CUDA_ERROR_INVALID_DEVICE;
  CUstream stream = nullptr;
  const CUresult result = ResolveStream(handle, &stream);
  if (result != CUDA_SUCCESS) return result;
  region->last_prefetch = location;
  Operation operation;
  operation.kind = CU_GRAPH_NODE_TYPE_EMPTY;
  return Submit(stream, std::move(operation));
}

// A location as the old attributes give it: the device, or the CPU, or none.
int OldId(const CUmemLocation& location) {
  if (location.type == CU_MEM_LOCATION_TYPE_INVALID) return CU_DEVICE_INVALID;
  return location.type == CU_MEM_LOCATION_TYPE_DEVICE ? location.id : CU_DEVICE_CPU;
}

CUresult RangeAttribute(const Region& region, void* data, size_t size, CUmem_range_attribute attribute) {
  int value = 0;
  switch (attribute) {
    case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY: value = region.read_mostly; break;
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION: value = OldId(region.preferred); break;
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION: value = OldId(region.last_prefetch); break;
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE: value = region.preferred.type; break;
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID: value = region.preferred.id; break;
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE: value = region.last_prefetch.type; break;
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID: value = region.last_prefetch.id; break;
    case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY: {
      if (size == 0 || size % 4 != 0) return CUDA_ERROR_INVALID_VALUE;
      auto* out = static_cast<int*>(data);
      size_t next = 0;
      for (size_t i = 0; i <= kMaxDevices && next < size / 4; ++i) {
        if (region.accessed_by[i]) out[next++] = i == kMaxDevices ? CU_DEVICE_CPU : static_cast<int>(i);
      }
      while (next < size / 4) out[next++] = CU_DEVICE_INVALID;
      return CUDA_SUCCESS;
    }
    default: return CUDA_ERROR_INVALID_VALUE;
  }
  if (size != 4) return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(data, &value, 4);
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;

SIM_API cuMemAllocManaged(CUdeviceptr* out, size_t bytes, unsigned int flags) {
  SIM_ENTER(cuMemAllocManaged, kUnsafe);
  const auto& profile = guard.state().profile;
  if (out == nullptr || bytes == 0 || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const uint64_t rounded = (bytes + sim::kGranularity - 1) / sim::kGranularity * sim::kGranularity;
  if (rounded < bytes || rounded > profile.host + profile.hbm * static_cast<uint64_t>(profile.devices)) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  const CUdeviceptr start = sim::VaTable::ReserveSpan(rounded, sim::kGranularity, 0);
  void* data = reinterpret_cast<void*>(start);
  if (start == 0 || mprotect(data, rounded, PROT_READ | PROT_WRITE) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
  sim::AddHostRegion(&guard.context(), data, rounded, sim::RegionKind::kManaged, flags)->requested = bytes;
  *out = start;
  return CUDA_SUCCESS;
}

SIM_API cuMemAdvise(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUdevice device) {
  SIM_ENTER(cuMemAdvise, kContext);
  return sim::Advise(guard.state(), address, bytes, advice, sim::OldLocation(device));
}

SIM_API cuMemAdvise_v2(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUmemLocation location) {
  SIM_ENTER(cuMemAdvise, kContext);
  return sim::Advise(guard.state(), address, bytes, advice, location);
}

SIM_API cuMemPrefetchAsync(CUdeviceptr address, size_t bytes, CUdevice device, CUstream stream) {
  SIM_ENTER(cuMemPrefetchAsync, kContext);
  return sim::Prefetch(guard.state(), address, bytes, sim::OldLocation(device), stream);
}

SIM_API cuMemPrefetchAsync_v2(CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned int flags,
                              CUstream stream) {
  SIM_ENTER(cuMemPrefetchAsync, kContext);
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  return sim::Prefetch(guard.state(), address, bytes, location, stream);
}

SIM_API cuMemRangeGetAttribute(void* data, size_t size, CUmem_range_attribute attribute, CUdeviceptr address,
                               size_t bytes) {
  SIM_ENTER(cuMemRangeGetAttribute, kContext);
  const auto* region = sim::Managed(guard.state(), address, bytes);
  if (data == nullptr || region == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return sim::RangeAttribute(*region, data, size, attribute);
}

SIM_API cuMemRangeGetAttributes(void** data, size_t* sizes, CUmem_range_attribute* attributes, size_t count,
                                CUdeviceptr address, size_t bytes) {
  SIM_ENTER(cuMemRangeGetAttributes, kContext);
  const auto* region = sim::Managed(guard.state(), address, bytes);
  if (data == nullptr || sizes == nullptr || attributes == nullptr || region == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    const CUresult result = sim::RangeAttribute(*region, data[i], sizes[i], attributes[i]);
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}
