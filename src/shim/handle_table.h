// HandleTable: the physical chunks that the program itself creates with
// cuMemCreate and maps where it likes (PyTorch's expandable segments do). The
// shim serves such a request from the host when HBM is short; the handle is then
// a host chunk's, and the table remembers what it stands for.
//
// A chunk's memory is in use until its last handle reference and its last mapping
// are gone, in either order, as in the driver. Any thread; driver calls are the
// caller's business.
#pragma once

#include <cuda.h>

#include <atomic>
#include <map>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "tier/chunk.h"

namespace headroom::shim {

struct HandleRecord {
  Chunk chunk;
  CUdevice device = 0;     // that the program asked for
  unsigned shareable = 0;  // CUmemAllocationHandleType bits
  bool small = false;      // counted as a small allocation
  bool exported = false;   // another process may hold it: never reused
  int references = 1;      // of the program
  int mappings = 0;
};

class HandleTable {
 public:
  using Handle = CUmemGenericAllocationHandle;

  enum class Released {
    kUnknown,   // not in the table: the driver's business
    kStillUsed, // other references or mappings keep it
    kDead,      // the last use is gone: *out is to be given back
    kInvalid,   // no reference was left to release
  };

  void Insert(const HandleRecord& record);
  bool Find(Handle handle, HandleRecord* out);
  void AddReference(Handle handle);
  void MarkExported(Handle handle);
  Released Release(Handle handle, HandleRecord* out);
  // Puts a dead record back whose memory could not be given back.
  void Revive(const HandleRecord& record);

  void AddMapping(CUdeviceptr va, uint64_t bytes, Handle handle);
  // Forgets the mappings in [va, va + bytes); returns the chunks that die by it.
  std::vector<HandleRecord> RemoveMappings(CUdeviceptr va, uint64_t bytes);
  // The host chunk mapped at `address`, if the program mapped one there.
  bool FindSpilledMapping(CUdeviceptr address, HandleRecord* out);

 private:
  struct Mapping {
    uint64_t bytes;
    Handle handle;
  };

  std::atomic<size_t> spilled_{0};  // host chunks in the table
  Mutex mutex_;
  std::unordered_map<Handle, HandleRecord> records_ HEADROOM_GUARDED_BY(mutex_);
  std::map<CUdeviceptr, Mapping> mappings_ HEADROOM_GUARDED_BY(mutex_);
};

}  // namespace headroom::shim
