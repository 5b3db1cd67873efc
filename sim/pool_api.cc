// cuMemAllocAsync and memory pools.
#include "capture.h"
#include "entry.h"
#include "pool.h"
#include "report.h"

namespace gpuroom::sim {
namespace {

CUresult Allocate(Guard& guard, CUdeviceptr* out, size_t bytes, CUmemoryPool pool, CUstream handle) {
  CUstream stream = nullptr;
  const CUresult result = ResolveStream(handle, &stream);
  if (result != CUDA_SUCCESS) return result;
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *out = 0;
  if (bytes == 0) return CUDA_SUCCESS;
  const CUresult refused = stream->capture == nullptr ? RefuseUnsafeCall() : CUDA_SUCCESS;
  if (refused != CUDA_SUCCESS) return refused;
  if (pool == nullptr) pool = CurrentPool(stream->context->device);
  if (!guard.state().pools.contains(pool)) return CUDA_ERROR_INVALID_VALUE;
  if (pool->managed) {
    NoteMisuse("memory from a pool of managed memory, which is not simulated");
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  return AllocateFromPool(guard.lock(), pool, stream, bytes, out);
}

CUresult PoolPlace(const State& state, const CUmemLocation& location, Place* place) {
  switch (location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
      *place = Place::Device(location.id);
      return state.IsDevice(location.id) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_MEM_LOCATION_TYPE_HOST: *place = Place::Node(0); return CUDA_SUCCESS;
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
      *place = Place::Node(location.id);
      return location.id >= 0 && location.id < state.profile.nodes ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

uint64_t* Counter(CUmemoryPool pool, CUmemPool_attribute attribute) {
  switch (attribute) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: return &pool->threshold;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: return &pool->reserved;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH: return &pool->reserved_high;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: return &pool->used;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH: return &pool->used_high;
    default: return nullptr;
  }
}

CUresult SetCounter(CUmemoryPool pool, CUmemPool_attribute attribute, uint64_t value) {
  if (attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) {
    pool->threshold = value;
    return CUDA_SUCCESS;
  }
  if (value != 0) return CUDA_ERROR_INVALID_VALUE;  // a high-water mark can only be reset
  if (attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)
    pool->reserved_high = pool->reserved;
  else if (attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH)
    pool->used_high = pool->used;
  else
    return CUDA_ERROR_INVALID_VALUE;
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;

SIM_API cuMemAllocAsync(CUdeviceptr* out, size_t bytes, CUstream stream) {
  SIM_ENTER(cuMemAllocAsync, kContext);
  return sim::Allocate(guard, out, bytes, nullptr, stream);
}

SIM_API cuMemAllocFromPoolAsync(CUdeviceptr* out, size_t bytes, CUmemoryPool pool, CUstream stream) {
  SIM_ENTER(cuMemAllocFromPoolAsync, kContext);
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  // Another process's pool makes no memory here.
  if (guard.state().pools.contains(pool) && pool->exporter != 0) return CUDA_ERROR_INVALID_VALUE;
  return sim::Allocate(guard, out, bytes, pool, stream);
}

SIM_API cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
  SIM_ENTER(cuMemFreeAsync, kContext);
  CUstream stream = nullptr;
  const CUresult result = sim::ResolveStream(handle, &stream);
  if (result != CUDA_SUCCESS) return result;
  if (address == 0) return CUDA_SUCCESS;
  return sim::FreeInStream(address, stream);
}

SIM_API cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice device) {
  SIM_ENTER(cuDeviceGetDefaultMemPool, kInit);
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!guard.state().IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  *pool = sim::DefaultPool(device);
  return CUDA_SUCCESS;
}

SIM_API cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice device) {
  SIM_ENTER(cuDeviceGetMemPool, kInit);
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!guard.state().IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  *pool = sim::CurrentPool(device);
  return CUDA_SUCCESS;
}

SIM_API cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool) {
  SIM_ENTER(cuDeviceSetMemPool, kInit);
  if (!guard.state().IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  if (!guard.state().pools.contains(pool) || pool->exporter != 0 || pool->managed ||
      pool->place != sim::Place::Device(device))
    return CUDA_ERROR_INVALID_VALUE;
  guard.state().devices[static_cast<size_t>(device)].pools.current = pool;
  return CUDA_SUCCESS;
}

SIM_API cuMemPoolCreate(CUmemoryPool* out, const CUmemPoolProps* props) {
  SIM_ENTER(cuMemPoolCreate, kInit);
  if (out == nullptr || props == nullptr || props->allocType != CU_MEM_ALLOCATION_TYPE_PINNED) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if ((props->handleTypes & ~CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0) return CUDA_ERROR_NOT_SUPPORTED;
  sim::Place place;
  const CUresult result = sim::PoolPlace(guard.state(), props->location, &place);
  if (result != CUDA_SUCCESS) return result;
  const CUcontext current = sim::CurrentContext();
  *out = sim::NewPool(place, place.is_device() ? place.index : current != nullptr ? current->device : 0);
  (*out)->shareable = props->handleTypes != 0;
  return CUDA_SUCCESS;
}

SIM_API cuMemPoolDestroy(CUmemoryPool pool) {
  SIM_ENTER(cuMemPoolDestroy, kInit);
  if (!guard.state().pools.contains(pool) || pool->is_default) return CUDA_ERROR_INVALID_VALUE;
  sim::TrimPool(pool, 0);
  const auto forget = [pool](sim::PoolSlots& slots) {
    if (slots.current == pool) slots.current = nullptr;
  };
  for (auto& device : guard.state().devices) forget(device.pools);
  for (auto& [node, slots] : guard.state().node_pools) forget(slots);
  guard.state().pools.erase(pool);
  if (pool->used == 0) delete pool;  // else its memory still points to it
  return CUDA_SUCCESS;
}

SIM_API cuMemPoolTrimTo(CUmemoryPool pool, size_t keep) {
  SIM_ENTER(cuMemPoolTrimTo, kInit);
  const CUresult refused = sim::RefuseUnsafeCall();
  if (refused != CUDA_SUCCESS) return refused;
  if (!guard.state().pools.contains(pool)) return CUDA_ERROR_INVALID_VALUE;
  sim::TrimPool(pool, keep);
  return CUDA_SUCCESS;
}

SIM_API cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void* value) {
  SIM_ENTER(cuMemPoolSetAttribute, kInit);
  if (!guard.state().pools.contains(pool) || value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (attribute >= CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES &&
      attribute <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES) {
    pool->reuse[attribute] = *static_cast<int*>(value);
    return CUDA_SUCCESS;
  }
  return sim::SetCounter(pool, attribute, *static_cast<cuuint64_t*>(value));
}

SIM_API cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void* value) {
  SIM_ENTER(cuMemPoolGetAttribute, kInit);
  if (!guard.state().pools.contains(pool) || value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (attribute >= CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES &&
      attribute <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES) {
    *static_cast<int*>(value) = pool->reuse[attribute];
    return CUDA_SUCCESS;
  }
  const uint64_t* counter = sim::Counter(pool, attribute);
  if (counter == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *static_cast<cuuint64_t*>(value) = *counter;
  return CUDA_SUCCESS;
}

SIM_API cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc* descs, size_t count) {
  SIM_ENTER(cuMemPoolSetAccess, kInit);
  auto& state = guard.state();
  if (!state.pools.contains(pool) || descs == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    const int device = descs[i].location.id;
    if (descs[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE || !state.IsDevice(device))
      return CUDA_ERROR_INVALID_VALUE;
    if (pool->place.is_device() && !state.Linked(device, pool->place.index)) return CUDA_ERROR_INVALID_DEVICE;
    pool->access.device[static_cast<size_t>(device)] = static_cast<uint8_t>(descs[i].flags);
  }
  for (auto& [start, region] : state.va.regions()) {
    if (region.pool == pool) region.access = pool->access;
  }
  return CUDA_SUCCESS;
}

SIM_API cuMemPoolGetAccess(CUmemAccess_flags* flags, CUmemoryPool pool, CUmemLocation* location) {
  SIM_ENTER(cuMemPoolGetAccess, kInit);
  if (flags == nullptr || location == nullptr || !guard.state().pools.contains(pool))
    return CUDA_ERROR_INVALID_VALUE;
  if (location->type != CU_MEM_LOCATION_TYPE_DEVICE || !guard.state().IsDevice(location->id))
    return CUDA_ERROR_INVALID_VALUE;
  *flags = static_cast<CUmemAccess_flags>(pool->access.device[static_cast<size_t>(location->id)]);
  return CUDA_SUCCESS;
}
