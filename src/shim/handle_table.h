// HandleTable: the physical memory that the program itself creates with
// cuMemCreate and maps where it likes (PyTorch's expandable segments and XLA do).
// The shim serves such a request from the host when HBM is short: its handle is
// then a host chunk's, or, where no tier could hold it whole, a number of the
// shim's own that stands for several chunks.
//
// The memory is in use until its last handle reference and its last mapping are
// gone, in either order, as in the driver. Any thread; driver calls are the
// caller's business.
#pragma once

#include <cuda.h>

#include <atomic>
#include <map>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "range/chunk_source.h"

namespace headroom::shim {

struct HandleRecord {
  bool spilled() const { return BytesIn(Tier::kHost, chunks) > 0; }

  CUmemGenericAllocationHandle handle = 0;  // what the program holds
  uint64_t bytes = 0;
  std::vector<Chunk> chunks;  // one, of that handle, or several
  CUdevice device = 0;        // that the program asked for
  unsigned shareable = 0;     // CUmemAllocationHandleType bits
  bool composite = false;     // the handle is the shim's own number
  bool small = false;         // counted as a small allocation
  bool exported = false;      // another process may hold it: never reused
  int references = 1;         // of the program
  int mappings = 0;
};

class HandleTable {
 public:
  using Handle = CUmemGenericAllocationHandle;

  enum class Released {
    kUnknown,    // not in the table: the driver's business
    kStillUsed,  // other references or mappings keep it
    kDead,       // the last use is gone: *out is to be given back
    kInvalid,    // no reference was left to release
  };

  void Insert(const HandleRecord& record);
  bool Find(Handle handle, HandleRecord* out);
  void AddReference(Handle handle);
  void MarkExported(Handle handle);
  Released Release(Handle handle, HandleRecord* out);
  // Puts a dead record back whose memory could not be given back.
  void Revive(const HandleRecord& record);
  // Keeps a dead record that the program no longer knows; TakeBuried hands all out.
  void Bury(const HandleRecord& record);
  std::vector<HandleRecord> TakeBuried();

  void AddMapping(CUdeviceptr va, uint64_t bytes, Handle handle);
  // Forgets the mappings in [va, va + bytes); returns the chunks that die by it.
  std::vector<HandleRecord> RemoveMappings(CUdeviceptr va, uint64_t bytes);
  // What the program mapped at `address`, if it is of this table.
  struct MappingInfo {
    CUdeviceptr va = 0;
    uint64_t bytes = 0;
    Handle handle = 0;
    uint64_t host_bytes = 0;  // of `bytes`, those in host chunks
    CUdevice device = 0;
  };
  bool FindMapping(CUdeviceptr address, MappingInfo* out);
  // The same for spilled memory only; cheap where there is none.
  bool FindSpilledMapping(CUdeviceptr address, MappingInfo* out) {
    return spilled_.load(std::memory_order_relaxed) != 0 && FindMapping(address, out) && out->host_bytes > 0;
  }

 private:
  struct Mapping {
    uint64_t bytes;
    Handle handle;
  };

  void Erase(std::unordered_map<Handle, HandleRecord>::iterator record) HEADROOM_REQUIRES(mutex_);

  std::atomic<size_t> spilled_{0};  // records with host chunks
  Mutex mutex_;
  std::unordered_map<Handle, HandleRecord> records_ HEADROOM_GUARDED_BY(mutex_);
  std::map<CUdeviceptr, Mapping> mappings_ HEADROOM_GUARDED_BY(mutex_);
  std::vector<HandleRecord> buried_ HEADROOM_GUARDED_BY(mutex_);
};

}  // namespace headroom::shim
