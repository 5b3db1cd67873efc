#include "pool.h"

#include <algorithm>

#include "alloc.h"
#include "behaviour.h"
#include "capture.h"
#include "report.h"

namespace gpuroom::sim {
namespace {

void AddReserved(CUmemoryPool pool, uint64_t bytes) {
  pool->reserved += bytes;
  pool->reserved_high = std::max(pool->reserved_high, pool->reserved);
}

void AddUsed(CUmemoryPool pool, uint64_t bytes) {
  pool->used += bytes;
  pool->used_high = std::max(pool->used_high, pool->used);
}

bool Freeable(const Region* region, CUdeviceptr address) {
  if (region == nullptr || region->start != address || region->freed || region->free_pending) return false;
  return region->kind == RegionKind::kPool || region->kind == RegionKind::kAlloc || IsPoolImport(*region);
}

void Revive(Region* region, uint64_t bytes) {
  region->freed = false;
  region->free_pending = false;
  region->requested = bytes;
  region->id = GetState().NextId();  // the free under way is for the old one
}

// A block whose free is still queued in the same stream: what comes after may use it.
bool ReusePending(CUmemoryPool pool, CUstream stream, uint64_t bytes, CUdeviceptr* out) {
  for (const auto& [start, stream_id] : pool->pending) {
    Region* region = GetState().va.Find(start);
    if (stream_id != stream->id || region->bytes != RoundedSize(bytes)) continue;
    *out = start;
    pool->pending.erase(start);
    pool->used -= region->bytes;
    Revive(region, bytes);
    return true;
  }
  return false;
}

bool Reuse(CUmemoryPool pool, uint64_t bytes, CUdeviceptr* out) {
  for (const CUdeviceptr start : pool->cached) {
    Region* region = GetState().va.Find(start);
    if (region->bytes != RoundedSize(bytes)) continue;
    *out = start;
    pool->cached.erase(*out);
    Revive(region, bytes);
    return true;
  }
  return false;
}

CUresult Try(CUmemoryPool pool, CUstream stream, uint64_t bytes, CUdeviceptr* out) {
  if (stream->capture == nullptr && ReusePending(pool, stream, bytes, out)) return CUDA_SUCCESS;
  if (Reuse(pool, bytes, out)) return CUDA_SUCCESS;
  const Request request{stream->context, pool->device, pool->place, bytes, RegionKind::kPool, pool};
  const CUresult result = AllocateDevice(request, out);
  if (result != CUDA_SUCCESS) return result;
  Region* region = GetState().va.Find(*out);
  region->access = pool->access;
  AddReserved(pool, region->bytes);
  return CUDA_SUCCESS;
}

}  // namespace

CUmemoryPool NewPool(Place place, int device) {
  auto* pool = new CUmemPoolHandle_st;
  pool->id = GetState().NextId();
  pool->place = place;
  pool->device = device;
  pool->access = DeviceAccess(device);
  GetState().pools.insert(pool);
  return pool;
}

CUmemoryPool DefaultPool(int device) {
  Device& owner = GetState().devices[static_cast<size_t>(device)];
  if (owner.pools.standard == nullptr) {
    owner.pools.standard = NewPool(Place::Device(device), device);
    owner.pools.standard->is_default = true;
  }
  return owner.pools.standard;
}

CUmemoryPool CurrentPool(int device) {
  Device& owner = GetState().devices[static_cast<size_t>(device)];
  return owner.pools.current != nullptr ? owner.pools.current : DefaultPool(device);
}

void TrimPool(CUmemoryPool pool, uint64_t keep) {
  while (pool->reserved > keep && !pool->cached.empty()) {
    Region* region = GetState().va.Find(*pool->cached.begin());
    pool->cached.erase(pool->cached.begin());
    pool->reserved -= region->bytes;
    FreeDevice(region);
  }
}

void TrimPools() {
  for (const CUmemoryPool pool : GetState().pools) {
    if (!pool->cached.empty()) TrimPool(pool, pool->threshold);
  }
}

CUresult AllocateFromPool(Lock& lock, CUmemoryPool pool, CUstream stream, uint64_t bytes, CUdeviceptr* out) {
  CUresult result = Try(pool, stream, bytes, out);
  if (result != CUDA_SUCCESS && stream->capture == nullptr) {
    // Frees may still be on their way, and other sizes lie in the pools.
    DrainContext(lock, stream->context);
    result = Try(pool, stream, bytes, out);
  }
  if (result != CUDA_SUCCESS) {
    for (const CUmemoryPool other : GetState().pools) TrimPool(other, 0);
    result = Try(pool, stream, bytes, out);
  }
  if (result != CUDA_SUCCESS) return result;
  AddUsed(pool, GetState().va.Find(*out)->bytes);
  if (stream->capture == nullptr) return CUDA_SUCCESS;
  Operation operation;
  operation.kind = CU_GRAPH_NODE_TYPE_MEM_ALLOC;
  stream->capture->graph->allocated.push_back(*out);
  return Submit(stream, std::move(operation));
}

bool IsPoolImport(const Region& region) {
  return region.kind == RegionKind::kImported && region.pool != nullptr;
}

void FreePoolImport(Region* region) {
  const CUdeviceptr start = region->start;
  const uint64_t bytes = region->bytes;
  region->pool->used -= bytes;
  GetState().va.Remove(start);
  VaTable::FreeSpan(start, ImportedSpan(bytes));
}

void ReleaseToPool(Region* region) {
  region->pool->used -= region->bytes;
  region->freed = true;
  region->free_pending = false;
  region->pool->pending.erase(region->start);
  region->pool->cached.insert(region->start);
}

CUresult FreeInStream(CUdeviceptr address, CUstream stream) {
  if (stream->capture == nullptr) {
    const CUresult refused = RefuseUnsafeCall();
    if (refused != CUDA_SUCCESS) return refused;
  }
  Region* region = GetState().va.Find(address);
  if (region != nullptr && region->kind == RegionKind::kManaged) return CUDA_ERROR_NOT_SUPPORTED;
  if (!Freeable(region, address)) {
    NoteMisuse("cuMemFreeAsync of memory that is not allocated, or freed already");
    return behaviour::kBadFree;
  }
  Operation operation;
  operation.kind = CU_GRAPH_NODE_TYPE_MEM_FREE;
  if (stream->capture != nullptr) {  // it ends with the graph
    auto& graph = *stream->capture->graph;
    if (std::find(graph.allocated.begin(), graph.allocated.end(), address) == graph.allocated.end()) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    graph.freed.push_back(address);
    return Submit(stream, std::move(operation));
  }
  operation.work = [address, id = region->id] {
    Region* found = GetState().va.Find(address);
    if (found == nullptr || found->id != id || found->freed) return CUDA_SUCCESS;
    if (found->kind == RegionKind::kPool) {
      ReleaseToPool(found);
    } else if (IsPoolImport(*found)) {
      FreePoolImport(found);
    } else {
      FreeDevice(found);
    }
    return CUDA_SUCCESS;
  };
  const CUresult result = Submit(stream, std::move(operation));
  if (result != CUDA_SUCCESS) return result;
  region->free_pending = true;
  if (region->kind == RegionKind::kPool) region->pool->pending[address] = stream->id;
  return CUDA_SUCCESS;
}

}  // namespace gpuroom::sim
