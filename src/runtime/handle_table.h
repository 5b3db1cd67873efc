// HandleTable: the physical memory that the program itself creates with
// cuMemCreate and maps where it likes (PyTorch's expandable segments and XLA do).
// The program holds a number of the shim's own for it: which chunks stand behind
// it, in which tier, is decided when it is created and may change later.
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
#include "range/placed.h"

namespace gpuroom {

struct HandleRecord : Placed {
  bool spilled() const { return host_bytes + peer_bytes > 0; }
  // Whether pointer queries cannot be left to the driver.
  bool away() const { return spilled() || !awake() || chunks.size() > 1; }

  CUmemGenericAllocationHandle handle = 0;  // what the program holds
  uint64_t bytes = 0;
  unsigned shareable = 0;  // CUmemAllocationHandleType bits
  bool small = false;      // counted as a small allocation; never moved
  int references = 1;      // of the program
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

  // A number for a new record: the driver's are heap addresses or small numbers, these neither.
  static Handle NewHandle();
  // The driver crashes on numbers that it never gave out.
  static bool IsOurs(Handle handle);

  void Insert(const HandleRecord& record);
  bool Find(Handle handle, HandleRecord* out);
  void AddReference(Handle handle);
  // Its chunks stay where they are from now on; with `exported`, another process may hold them.
  void Pin(Handle handle, bool exported);
  Released Release(Handle handle, HandleRecord* out);
  // Puts a dead record back whose memory could not be given back.
  void Revive(const HandleRecord& record);
  // Keeps a dead record that the program no longer knows; TakeBuried hands all out.
  void Bury(const HandleRecord& record);
  std::vector<HandleRecord> TakeBuried();

  void AddMapping(CUdeviceptr va, uint64_t bytes, Handle handle);
  // What the program allowed on the mappings in [va, va + bytes).
  void NoteAccess(CUdeviceptr va, uint64_t bytes, const CUmemAccessDesc* access, size_t count);
  // Forgets the mappings in [va, va + bytes); returns the records that die by it.
  std::vector<HandleRecord> RemoveMappings(CUdeviceptr va, uint64_t bytes);
  // What the program mapped at `address`, if it is of this table.
  struct MappingInfo {
    CUdeviceptr va = 0;
    uint64_t bytes = 0;
    Handle handle = 0;
    uint64_t host_bytes = 0;  // of `bytes`, those in host chunks
    uint64_t peer_bytes = 0;  // and those on other GPUs
    CUdevice device = 0;
    Hint hint = Hint::kNone;
    bool asleep = false;
    bool away = false;  // as HandleRecord::away
  };
  bool FindMapping(CUdeviceptr address, MappingInfo* out);
  // The same for memory that is away() only; cheap where there is none.
  bool FindAwayMapping(CUdeviceptr address, MappingInfo* out) {
    return away_.load(std::memory_order_relaxed) != 0 && FindMapping(address, out) && out->away;
  }
  // The mappings in [va, va + bytes) of what is asleep, in address order: nothing is mapped there. Cheap
  // where nothing is away().
  struct Span {
    CUdeviceptr va = 0;
    uint64_t bytes = 0;
  };
  std::vector<Span> SleepingIn(CUdeviceptr va, uint64_t bytes);

  // The records of a device while `use` runs, which may change their chunks; other
  // threads wait.
  template <typename Use>
  void WithRecordsOf(CUdevice device, Use use) {
    MutexLock lock(mutex_);
    std::vector<HandleRecord*> records;
    for (auto& [handle, record] : records_) {
      if (record.device == device) records.push_back(&record);
    }
    use(records);
    CountAway();
  }
  // The same for all devices.
  template <typename Use>
  void WithAll(Use use) {
    MutexLock lock(mutex_);
    std::vector<HandleRecord*> records;
    records.reserve(records_.size());
    for (auto& [handle, record] : records_) records.push_back(&record);
    use(records);
    CountAway();
  }

 private:
  struct Mapping {
    uint64_t bytes;
    Handle handle;
  };

  void Erase(std::unordered_map<Handle, HandleRecord>::iterator record) GPUROOM_REQUIRES(mutex_);
  void CountAway() GPUROOM_REQUIRES(mutex_);

  std::atomic<size_t> away_{0};  // records that are away()
  Mutex mutex_;
  std::unordered_map<Handle, HandleRecord> records_ GPUROOM_GUARDED_BY(mutex_);
  std::map<CUdeviceptr, Mapping> mappings_ GPUROOM_GUARDED_BY(mutex_);
  std::vector<HandleRecord> buried_ GPUROOM_GUARDED_BY(mutex_);
};

}  // namespace gpuroom
