// What the driver says about an address.
#include <cstring>

#include "entry.h"

namespace gpuroom::sim {
namespace {

bool HostResident(const Region& region) {
  return region.kind == RegionKind::kHost || (region.chunk != nullptr && !region.chunk->place.is_device());
}

template <typename T>
CUresult Give(void* out, T value) {
  std::memcpy(out, &value, sizeof value);
  return CUDA_SUCCESS;
}

bool HostReachable(const Region& region) {
  return region.kind == RegionKind::kHost || region.kind == RegionKind::kManaged || region.access.host != 0;
}

unsigned HandleTypes(const Region& region) {
  const bool shareable = region.chunk != nullptr && region.chunk->shareable;
  return shareable ? CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR : CU_MEM_HANDLE_TYPE_NONE;
}

// What the current device may do.
unsigned Rights(const Region& region) {
  const CUcontext current = CurrentContext();
  return region.access.device[static_cast<size_t>(current != nullptr ? current->device : region.device)];
}

// A pool takes its memory from segments of this size.
constexpr uint64_t kPoolSegment = 32 * kMiB;

uint64_t MappingSize(const Region& region) {
  if (region.kind == RegionKind::kPool)
    return (region.bytes + kPoolSegment - 1) / kPoolSegment * kPoolSegment;
  return region.kind == RegionKind::kAlloc && region.chunk != nullptr ? region.chunk->bytes : region.bytes;
}

CUdeviceptr MappingBase(const Region& region) {
  return region.kind == RegionKind::kAlloc ? region.start - region.chunk_offset : region.start;
}

// What the driver calls the range: of mapped memory the whole reservation.
Reservation RangeOf(const Region& region) {
  if (region.kind == RegionKind::kVmm) {
    const Reservation* reservation = GetState().va.FindReservation(region.start, region.bytes);
    if (reservation != nullptr) return *reservation;
  }
  return {region.start, region.requested};
}

// An ordinary allocation is open to its own device, and to others by cuCtxEnablePeerAccess.
bool Reachable(const Region& region) {
  const CUcontext current = CurrentContext();
  if (region.kind != RegionKind::kAlloc || current == nullptr) return Rights(region) != 0;
  return region.device == current->device || GetState().peer_enabled[current->device][region.device];
}

CUresult Attribute(Region& region, void* out, CUpointer_attribute attribute, CUdeviceptr address) {
  const bool alloc = region.kind == RegionKind::kAlloc;
  const bool managed = region.kind == RegionKind::kManaged;
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return Give(out, region.kind == RegionKind::kVmm || region.kind == RegionKind::kPool ? nullptr
                                                                                           : region.context);
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return Give(out, HostResident(region) ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      if (!Reachable(region)) return CUDA_ERROR_INVALID_VALUE;
      return Give(out, address);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (!HostReachable(region)) return CUDA_ERROR_INVALID_VALUE;
      return Give(out, reinterpret_cast<void*>(address));
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS: return Give(out, static_cast<int>(managed));
    case CU_POINTER_ATTRIBUTE_BUFFER_ID: return Give<unsigned long long>(out, region.id);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED: return Give(out, static_cast<int>(managed));
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: return Give(out, region.device);
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE: return Give(out, static_cast<int>(alloc));
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: return Give(out, RangeOf(region).start);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE: return Give<size_t>(out, RangeOf(region).bytes);
    case CU_POINTER_ATTRIBUTE_MAPPED: return Give(out, 1);
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES: return Give(out, HandleTypes(region));
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
      return Give(out, static_cast<int>(alloc || (region.chunk != nullptr && region.chunk->rdma)));
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return Give<unsigned>(out, alloc ? unsigned{CU_MEM_ACCESS_FLAGS_PROT_READWRITE} : Rights(region));
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE: return Give(out, region.pool);
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE: return Give<size_t>(out, MappingSize(region));
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR: return Give(out, MappingBase(region));
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return Give<unsigned long long>(out, region.chunk != nullptr ? region.chunk->id : region.id);
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE: return Give(out, 0);
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

Region* LiveRegion(State& state, CUdeviceptr address) {
  Region* region = state.va.Find(address);
  return region != nullptr && !region->freed ? region : nullptr;
}

// cuPointerGetAttributes succeeds on any address. What is not known is zero, but
// an address that is nobody's counts as the host's, a reserved one has a range,
// and other ranges are left unwritten.
void ClearAttribute(void* out, CUpointer_attribute attribute, CUdeviceptr address, bool known) {
  const auto* reservation = GetState().va.FindReservation(address, 1);
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      if (reservation != nullptr) Give(out, reservation->start);
      break;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      if (reservation != nullptr) Give<size_t>(out, reservation->bytes);
      break;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER: Give(out, known ? CUdeviceptr{0} : address); break;
    case CU_POINTER_ATTRIBUTE_CONTEXT:
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID: Give(out, uint64_t{0}); break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: Give(out, -2); break;
    default: Give(out, 0); break;
  }
}

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;

SIM_API cuPointerGetAttribute(void* out, CUpointer_attribute attribute, CUdeviceptr address) {
  SIM_ENTER(cuPointerGetAttribute, kInit);
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto* region = sim::LiveRegion(guard.state(), address);
  if (region != nullptr) return sim::Attribute(*region, out, attribute, address);
  return sim::behaviour::kPointerUnknown;  // reserved, but not mapped, too
}

SIM_API cuPointerGetAttributes(unsigned int count, CUpointer_attribute* attributes, void** out,
                               CUdeviceptr address) {
  SIM_ENTER(cuPointerGetAttributes, kContext);
  if (attributes == nullptr || out == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  auto* region = sim::LiveRegion(guard.state(), address);
  for (unsigned i = 0; i < count; ++i) {
    if (region == nullptr || sim::Attribute(*region, out[i], attributes[i], address) != CUDA_SUCCESS) {
      sim::ClearAttribute(out[i], attributes[i], address, region != nullptr);
    }
  }
  return CUDA_SUCCESS;
}

SIM_API cuPointerSetAttribute(const void* value, CUpointer_attribute attribute, CUdeviceptr address) {
  SIM_ENTER(cuPointerSetAttribute, kContext);
  if (value == nullptr || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS) return CUDA_ERROR_INVALID_VALUE;
  const auto* region = sim::LiveRegion(guard.state(), address);
  if (region == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return region->kind == sim::RegionKind::kVmm ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;
}
