// cuMemAlloc and its family: device memory of the driver's own, page-locked
// host memory, and how much there is.
#include <sys/mman.h>
#include <unistd.h>

#include "alloc.h"
#include "capture.h"
#include "entry.h"
#include "pool.h"
#include "report.h"
#include "stream.h"

namespace gpuroom::sim {
namespace {

constexpr uint64_t kPage = 4 * kKiB;

// Page-locked memory counts against the whole host.
bool ChargeHost(State& state, uint64_t bytes) {
  uint64_t used = state.pinned;
  for (int node = 0; node < state.profile.nodes; ++node) used += state.Used(Place::Node(node));
  if (bytes > state.profile.host || used > state.profile.host - bytes) return false;
  state.pinned += bytes;
  return true;
}

CUresult AllocateHost(Guard& guard, void** out, size_t bytes, unsigned flags) {
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *out = nullptr;
  if (bytes == 0) return CUDA_SUCCESS;
  const uint64_t rounded = (bytes + kPage - 1) / kPage * kPage;
  if (rounded < bytes || !ChargeHost(guard.state(), rounded)) return CUDA_ERROR_OUT_OF_MEMORY;
  void* data =
      mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    guard.state().pinned -= rounded;
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  Region* region = AddHostRegion(&guard.context(), data, rounded, RegionKind::kHost, flags);
  region->requested = bytes;
  *out = data;
  return CUDA_SUCCESS;
}

// The region that begins at `address` and can be freed by a call for `kind`.
Region* OwnRegion(State& state, CUdeviceptr address, RegionKind kind) {
  Region* region = state.va.Find(address);
  return region != nullptr && region->start == address && region->kind == kind ? region : nullptr;
}

CUresult RefuseUnsafe(Guard& guard) {
  const CUresult result = guard.RequireContext();
  return result == CUDA_SUCCESS ? RefuseUnsafeCall() : result;
}

// A VMM mapping that the current device has no access to is in no range.
CUresult AddressRange(Region& region, CUdeviceptr* base, size_t* size, int device) {
  const bool mapping = region.kind == RegionKind::kVmm;
  if (mapping && region.access.device[static_cast<size_t>(device)] == 0) return behaviour::kRangeUnknown;
  const bool host_chunk = mapping && !region.chunk->place.is_device();
  if (base != nullptr) *base = host_chunk ? 0 : region.start;  // as the driver does
  if (size != nullptr) *size = region.requested;
  return CUDA_SUCCESS;
}

void FreeManaged(State& state, Region* region) {
  const CUdeviceptr start = region->start;
  const uint64_t bytes = region->bytes;
  state.va.Remove(start);
  munmap(reinterpret_cast<void*>(start), bytes);
}

Region* FreeableRegion(State& state, CUdeviceptr address) {
  for (const RegionKind kind :
       {RegionKind::kAlloc, RegionKind::kManaged, RegionKind::kPool, RegionKind::kImported}) {
    Region* region = OwnRegion(state, address, kind);
    if (kind == RegionKind::kImported && region != nullptr && !IsPoolImport(*region)) continue;
    if (region != nullptr && !region->freed && !region->free_pending) return region;
  }
  return nullptr;
}

}  // namespace
}  // namespace gpuroom::sim

using gpuroom::sim::NoteMisuse;
using gpuroom::sim::RegionKind;

SIM_API cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  SIM_ENTER(cuMemGetInfo, kContext);
  const auto place = gpuroom::sim::Place::Device(guard.context().device);
  if (total != nullptr) *total = guard.state().profile.hbm;
  if (free_bytes != nullptr) *free_bytes = guard.state().Free(place);
  return CUDA_SUCCESS;
}

SIM_API cuMemAlloc_v2(CUdeviceptr* out, size_t bytes) {
  SIM_ENTER(cuMemAlloc, kUnsafe);
  if (out == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  *out = 0;
  return gpuroom::sim::AllocateDevice(gpuroom::sim::OrdinaryRequest(&guard.context(), bytes), out);
}

// The form with 32-bit addresses exists to be found; no such address is ever free.
SIM_API cuMemAlloc(CUdeviceptr_v1*, unsigned int) {
  SIM_ENTER(cuMemAlloc, kUnsafe);
  return CUDA_ERROR_NOT_SUPPORTED;
}

SIM_API cuMemAllocPitch_v2(CUdeviceptr* out, size_t* pitch, size_t width, size_t height,
                           unsigned int element) {
  SIM_ENTER(cuMemAllocPitch, kUnsafe);
  if (out == nullptr || pitch == nullptr || width == 0 || height == 0) return CUDA_ERROR_INVALID_VALUE;
  if (element != 4 && element != 8 && element != 16) return CUDA_ERROR_INVALID_VALUE;
  const size_t row = (width + 511) / 512 * 512;
  if (row < width || row > SIZE_MAX / height) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUresult result =
      gpuroom::sim::AllocateDevice(gpuroom::sim::OrdinaryRequest(&guard.context(), row * height), out);
  if (result == CUDA_SUCCESS) *pitch = row;
  return result;
}

SIM_API cuMemFree_v2(CUdeviceptr address) {
  SIM_ENTER(cuMemFree, kInit);
  if (address == 0) return CUDA_SUCCESS;
  const CUresult refused = gpuroom::sim::RefuseUnsafe(guard);
  if (refused != CUDA_SUCCESS) return refused;
  auto& state = guard.state();
  auto* region = gpuroom::sim::FreeableRegion(state, address);
  if (region == nullptr) {
    NoteMisuse("cuMemFree of an address that is not allocated");
    return gpuroom::sim::behaviour::kBadFree;
  }
  if (gpuroom::sim::behaviour::kFreeSynchronizes && region->kind != RegionKind::kPool) {
    const CUresult result = gpuroom::sim::DrainContext(guard.lock(), region->context);
    if (result != CUDA_SUCCESS) return result;
    region = gpuroom::sim::FreeableRegion(state, address);  // the lock was open meanwhile
    if (region == nullptr) return gpuroom::sim::behaviour::kBadFree;
  }
  if (region->kind == RegionKind::kManaged) {
    gpuroom::sim::FreeManaged(state, region);
  } else if (region->kind == RegionKind::kPool) {
    gpuroom::sim::ReleaseToPool(region);
  } else if (gpuroom::sim::IsPoolImport(*region)) {
    gpuroom::sim::FreePoolImport(region);
  } else {
    gpuroom::sim::FreeDevice(region);
  }
  return CUDA_SUCCESS;
}

SIM_API cuMemAllocHost_v2(void** out, size_t bytes) {
  SIM_ENTER(cuMemAllocHost, kUnsafe);
  return gpuroom::sim::AllocateHost(guard, out, bytes, CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_PORTABLE);
}

SIM_API cuMemHostAlloc(void** out, size_t bytes, unsigned int flags) {
  SIM_ENTER(cuMemHostAlloc, kUnsafe);
  constexpr unsigned kKnown =
      CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
  if ((flags & ~kKnown) != 0) return CUDA_ERROR_INVALID_VALUE;
  return gpuroom::sim::AllocateHost(guard, out, bytes, flags);
}

SIM_API cuMemFreeHost(void* data) {
  SIM_ENTER(cuMemFreeHost, kUnsafe);
  if (data == nullptr) return CUDA_SUCCESS;
  const auto address = reinterpret_cast<CUdeviceptr>(data);
  auto& state = guard.state();
  auto* region = gpuroom::sim::OwnRegion(state, address, RegionKind::kHost);
  if (region == nullptr || region->registered) {
    NoteMisuse("cuMemFreeHost of memory that cuMemAllocHost did not give");
    return gpuroom::sim::behaviour::kBadFree;
  }
  gpuroom::sim::DrainContext(guard.lock(), region->context);
  region = gpuroom::sim::OwnRegion(state, address, RegionKind::kHost);
  if (region == nullptr) return gpuroom::sim::behaviour::kBadFree;
  const uint64_t bytes = region->bytes;
  state.pinned -= bytes;
  state.va.Remove(address);
  munmap(data, bytes);
  return CUDA_SUCCESS;
}

SIM_API cuMemHostRegister_v2(void* data, size_t bytes, unsigned int flags) {
  SIM_ENTER(cuMemHostRegister, kUnsafe);
  if (data == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  const auto address = reinterpret_cast<CUdeviceptr>(data);
  if (guard.state().va.Overlaps(address, bytes)) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
  gpuroom::sim::AddHostRegion(&guard.context(), data, bytes, RegionKind::kHost, flags)->registered = true;
  return CUDA_SUCCESS;
}

SIM_API cuMemHostUnregister(void* data) {
  SIM_ENTER(cuMemHostUnregister, kUnsafe);
  const auto address = reinterpret_cast<CUdeviceptr>(data);
  auto* region = gpuroom::sim::OwnRegion(guard.state(), address, RegionKind::kHost);
  if (region == nullptr || !region->registered) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
  gpuroom::sim::DrainContext(guard.lock(), region->context);
  guard.state().va.Remove(address);
  return CUDA_SUCCESS;
}

SIM_API cuMemHostGetDevicePointer_v2(CUdeviceptr* out, void* data, unsigned int flags) {
  SIM_ENTER(cuMemHostGetDevicePointer, kContext);
  if (out == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  auto* region = guard.state().va.Find(reinterpret_cast<CUdeviceptr>(data));
  if (region == nullptr || region->kind != RegionKind::kHost) return CUDA_ERROR_INVALID_VALUE;
  *out = reinterpret_cast<CUdeviceptr>(data);
  return CUDA_SUCCESS;
}

SIM_API cuMemHostGetFlags(unsigned int* flags, void* data) {
  SIM_ENTER(cuMemHostGetFlags, kContext);
  if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto* region = guard.state().va.Find(reinterpret_cast<CUdeviceptr>(data));
  if (region == nullptr || region->kind != RegionKind::kHost) return CUDA_ERROR_INVALID_VALUE;
  *flags = region->flags;
  return CUDA_SUCCESS;
}

SIM_API cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* size, CUdeviceptr address) {
  SIM_ENTER(cuMemGetAddressRange, kContext);
  auto* region = guard.state().va.Find(address);
  if (region == nullptr || region->freed) return gpuroom::sim::behaviour::kRangeUnknown;
  return gpuroom::sim::AddressRange(*region, base, size, guard.context().device);
}
