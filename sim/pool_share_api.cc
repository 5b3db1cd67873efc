// Pools of other processes: a pool's descriptor names it, a pointer's data names the bytes as a legacy IPC
// handle does, so the exporter has to live and belong to the same user. And which pool a place uses.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "alloc.h"
#include "entry.h"
#include "pool.h"
#include "report.h"

namespace gpuroom::sim {
namespace {

constexpr char kPoolName[] = "gpuroom-sim-pool process=%d pool=%llu place=%d";

struct PoolPointer {
  char magic[8];
  int32_t process;
  int32_t fd;
  uint64_t pool;
  uint64_t offset;
  uint64_t bytes;
  uint64_t requested;
};
constexpr char kPoolMagic[8] = "hrsimpp";
static_assert(sizeof(PoolPointer) <= sizeof(CUmemPoolPtrExportData));

// A new descriptor that names the pool, or -1.
int ExportPool(const State& state, CUmemoryPool pool) {
  char name[128];
  std::snprintf(name, sizeof name, kPoolName, getpid(), static_cast<unsigned long long>(pool->id),
                state.SharedName(pool->place));
  return memfd_create(name, MFD_CLOEXEC);
}

// Null: no descriptor of a pool that this process can use.
CUmemoryPool ImportPool(const State& state, int fd) {
  char path[64];
  char name[256] = {};
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (readlink(path, name, sizeof name - 1) <= 0) return nullptr;
  const char* start = std::strstr(name, "gpuroom-sim-pool");
  int process = 0;
  unsigned long long id = 0;
  int shared_name = 0;
  Place place;
  if (start == nullptr || std::sscanf(start, kPoolName, &process, &id, &shared_name) != 3) return nullptr;
  if (!state.FindPlace(shared_name, &place)) return nullptr;
  CUmemoryPool pool = NewPool(place, place.is_device() ? place.index : 0);
  pool->exporter = process;
  pool->id = id;
  return pool;
}

CUresult ImportPointer(Guard& guard, CUmemoryPool pool, const PoolPointer& pointer, CUdeviceptr* out) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/fd/%d", pointer.process, pointer.fd);
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return CUDA_ERROR_INVALID_VALUE;
  Region region;
  region.chunk = AdoptPiece(fd, guard.state().SharedName(pool->place), pointer.offset, pointer.bytes);
  if (region.chunk == nullptr) return CUDA_ERROR_INVALID_VALUE;
  region.start = VaTable::ReserveSpan(ImportedSpan(pointer.bytes), kGranularity, 0);
  if (region.start == 0) return CUDA_ERROR_MAP_FAILED;
  region.bytes = pointer.bytes;
  region.requested = pointer.requested;
  region.kind = RegionKind::kImported;
  region.pool = pool;
  region.data = region.chunk->alias;
  region.device = pool->device;
  region.context = CurrentContext();
  region.access = pool->access;
  region.id = guard.state().NextId();
  pool->used += region.bytes;
  *out = region.start;
  guard.state().va.Add(std::move(region));
  return CUDA_SUCCESS;
}

// The slots of a place's default and current pool; null: there is no such place.
PoolSlots* SlotsOf(State& state, const CUmemLocation& location) {
  switch (location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
      return state.IsDevice(location.id) ? &state.devices[static_cast<size_t>(location.id)].pools : nullptr;
    case CU_MEM_LOCATION_TYPE_HOST: return &state.node_pools[0];
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
      return location.id >= 0 && location.id < state.profile.nodes ? &state.node_pools[location.id] : nullptr;
    default: return nullptr;
  }
}

// A place's pools of managed memory: they are there, and that is all of them that is simulated.
PoolSlots* ManagedSlotsOf(State& state, const CUmemLocation& location) {
  const bool on_device = location.type == CU_MEM_LOCATION_TYPE_DEVICE;
  const int id = location.type == CU_MEM_LOCATION_TYPE_HOST ? 0 : location.id;
  const Place place = on_device ? Place::Device(id) : Place::Node(id);
  PoolSlots& slots = state.managed_pools[place.index];
  if (slots.standard == nullptr) {
    slots.standard = NewPool(place, on_device ? id : 0);
    slots.standard->is_default = true;
    slots.standard->managed = true;
  }
  return &slots;
}

CUresult FindPools(State& state, const CUmemLocation* location, CUmemAllocationType type, PoolSlots** slots) {
  const bool managed = type == CU_MEM_ALLOCATION_TYPE_MANAGED;
  if (location == nullptr || (type != CU_MEM_ALLOCATION_TYPE_PINNED && !managed))
    return CUDA_ERROR_INVALID_VALUE;
  *slots = SlotsOf(state, *location);
  if (*slots == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (managed) {
    *slots = ManagedSlotsOf(state, *location);
  } else if (location->type == CU_MEM_LOCATION_TYPE_DEVICE) {
    DefaultPool(location->id);  // made when it is first asked for
  } else if ((*slots)->standard == nullptr) {
    const int node = location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA ? location->id : 0;
    (*slots)->standard = NewPool(Place::Node(node), 0);
    (*slots)->standard->is_default = true;
  }
  return CUDA_SUCCESS;
}

bool IsExportable(const State& state, CUmemoryPool pool) {
  return state.pools.contains(pool) && pool->exporter == 0 && pool->shareable;
}

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;

SIM_API cuMemGetDefaultMemPool(CUmemoryPool* out, CUmemLocation* location, CUmemAllocationType type) {
  SIM_ENTER(cuMemGetDefaultMemPool, kInit);
  sim::PoolSlots* slots = nullptr;
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUresult result = sim::FindPools(guard.state(), location, type, &slots);
  if (result == CUDA_SUCCESS) *out = slots->standard;
  return result;
}

SIM_API cuMemGetMemPool(CUmemoryPool* out, CUmemLocation* location, CUmemAllocationType type) {
  SIM_ENTER(cuMemGetMemPool, kInit);
  sim::PoolSlots* slots = nullptr;
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUresult result = sim::FindPools(guard.state(), location, type, &slots);
  if (result == CUDA_SUCCESS) *out = slots->current != nullptr ? slots->current : slots->standard;
  return result;
}

SIM_API cuMemSetMemPool(CUmemLocation* location, CUmemAllocationType type, CUmemoryPool pool) {
  SIM_ENTER(cuMemSetMemPool, kInit);
  auto& state = guard.state();
  sim::PoolSlots* slots = nullptr;
  const CUresult result = sim::FindPools(state, location, type, &slots);
  if (result != CUDA_SUCCESS) return result;
  const bool fits = state.pools.contains(pool) && pool->exporter == 0 &&
                    pool->place == slots->standard->place && pool->managed == slots->standard->managed;
  if (!fits) return CUDA_ERROR_INVALID_VALUE;
  slots->current = pool;
  return CUDA_SUCCESS;
}

SIM_API cuMemPoolExportToShareableHandle(void* out, CUmemoryPool pool, CUmemAllocationHandleType type,
                                         unsigned long long flags) {
  SIM_ENTER(cuMemPoolExportToShareableHandle, kInit);
  if (out == nullptr || flags != 0 || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
    return CUDA_ERROR_INVALID_VALUE;
  if (!sim::IsExportable(guard.state(), pool)) return CUDA_ERROR_INVALID_VALUE;
  const int fd = sim::ExportPool(guard.state(), pool);
  if (fd < 0) return CUDA_ERROR_OPERATING_SYSTEM;
  pool->exported = true;
  *static_cast<int*>(out) = fd;
  return CUDA_SUCCESS;
}

SIM_API cuMemPoolImportFromShareableHandle(CUmemoryPool* out, void* handle, CUmemAllocationHandleType type,
                                           unsigned long long flags) {
  SIM_ENTER(cuMemPoolImportFromShareableHandle, kInit);
  if (out == nullptr || flags != 0 || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
    return CUDA_ERROR_INVALID_VALUE;
  CUmemoryPool pool = sim::ImportPool(guard.state(), static_cast<int>(reinterpret_cast<intptr_t>(handle)));
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *out = pool;
  return CUDA_SUCCESS;
}

SIM_API cuMemPoolExportPointer(CUmemPoolPtrExportData* out, CUdeviceptr address) {
  SIM_ENTER(cuMemPoolExportPointer, kInit);
  const auto* region = guard.state().va.Find(address);
  if (out == nullptr || region == nullptr || region->start != address || region->freed ||
      region->pool == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  if (!sim::IsExportable(guard.state(), region->pool) || !region->pool->exported)
    return CUDA_ERROR_INVALID_VALUE;
  sim::PoolPointer pointer{};
  std::memcpy(pointer.magic, sim::kPoolMagic, sizeof pointer.magic);
  pointer.process = getpid();
  pointer.fd = region->chunk->fd;
  pointer.pool = region->pool->id;
  pointer.offset = region->chunk->offset + region->chunk_offset;
  pointer.bytes = region->bytes;
  pointer.requested = region->requested;
  std::memset(out, 0, sizeof *out);
  std::memcpy(out, &pointer, sizeof pointer);
  return CUDA_SUCCESS;
}

SIM_API cuMemPoolImportPointer(CUdeviceptr* out, CUmemoryPool pool, CUmemPoolPtrExportData* data) {
  SIM_ENTER(cuMemPoolImportPointer, kContext);
  if (out == nullptr || data == nullptr || !guard.state().pools.contains(pool))
    return CUDA_ERROR_INVALID_VALUE;
  sim::PoolPointer pointer;
  std::memcpy(&pointer, data, sizeof pointer);
  const bool of_pool = std::memcmp(pointer.magic, sim::kPoolMagic, sizeof sim::kPoolMagic) == 0 &&
                       pointer.process == pool->exporter && pointer.pool == pool->id;
  return of_pool ? sim::ImportPointer(guard, pool, pointer, out) : CUDA_ERROR_INVALID_VALUE;
}
