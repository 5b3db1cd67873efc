// Stream-ordered pools. A free takes effect when its stream reaches it; the
// block then stays in the pool for the next request of its size, until a
// synchronisation trims the pool to its release threshold. Under the lock.
#pragma once

#include <cuda.h>

#include <map>
#include <set>

#include "stream.h"
#include "va_table.h"

struct CUmemPoolHandle_st {
  gpuroom::sim::Place place;
  int device = 0;  // whose rights its memory has from the start
  bool is_default = false;
  bool managed = false;    // gives out managed memory, which is not simulated
  bool shareable = false;  // made to be exported
  bool exported = false;   // and its handle was
  int exporter = 0;        // the process whose pool it is; 0: this one
  uint64_t id = 0;         // in the process whose pool it is
  gpuroom::sim::AccessSet access;
  uint64_t threshold = 0;
  uint64_t reserved = 0, reserved_high = 0;
  uint64_t used = 0, used_high = 0;
  int reuse[4] = {0, 1, 1, 1};              // by attribute number, 1 to 3
  std::set<CUdeviceptr> cached;             // freed blocks
  std::map<CUdeviceptr, uint64_t> pending;  // frees under way, with their stream's id
};

namespace gpuroom::sim {

CUmemoryPool NewPool(Place place, int device);
CUmemoryPool DefaultPool(int device);
CUmemoryPool CurrentPool(int device);
// Gives cached blocks back until no more than `keep` bytes are reserved.
void TrimPool(CUmemoryPool pool, uint64_t keep);
// What a synchronisation does to every pool.
void TrimPools();

CUresult AllocateFromPool(Lock& lock, CUmemoryPool pool, CUstream stream, uint64_t bytes, CUdeviceptr* out);
// Memory of another process's pool, and its end here.
bool IsPoolImport(const Region& region);
void FreePoolImport(Region* region);
// Notes what a graph takes on `device` for its allocations of `bytes` bytes when it is launched. It is kept
// until cuDeviceGraphMemTrim; several graphs share it.
void NoteGraphLaunch(int device, uint64_t bytes);
// Frees a region of a pool at once.
void ReleaseToPool(Region* region);
CUresult FreeInStream(CUdeviceptr address, CUstream stream);

}  // namespace gpuroom::sim
