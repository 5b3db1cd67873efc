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

#include <unordered_map>
#include <vector>

#include "range/address_map.h"

namespace gpuroom {

struct HandleRecord : Placed {
  HandleRecord() { in_pieces = true; }

  CUmemGenericAllocationHandle handle = 0;  // what the program holds
  uint64_t bytes = 0;
  unsigned shareable = 0;  // CUmemAllocationHandleType bits
  bool small = false;      // counted as a small allocation; never moved
  int references = 1;      // of the program
};

class HandleTable {
 public:
  using Handle = CUmemGenericAllocationHandle;

  // `map`, in which the mappings are, outlives this object.
  explicit HandleTable(AddressMap& map) : map_(map) {}

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

  void Insert(HandleRecord&& record);
  bool Find(Handle handle, HandleRecord* out);
  void AddReference(Handle handle);
  // Its chunks stay where they are from now on; with `exported`, another process may hold them.
  void Pin(Handle handle, bool exported);
  Released Release(Handle handle, HandleRecord* out);
  // Puts a dead record back whose memory could not be given back.
  void Revive(const HandleRecord& record);

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
    bool away = false;  // as Placed::away
  };
  bool FindMapping(CUdeviceptr address, MappingInfo* out);
  // The same for memory that is away() only; cheap where there is none.
  bool FindAwayMapping(CUdeviceptr address, MappingInfo* out) {
    return AnyAway() && FindMapping(address, out) && out->away;
  }
  // The mappings in [va, va + bytes) of what is asleep, in address order: nothing is mapped there. Cheap
  // where nothing is away().
  struct Span {
    CUdeviceptr va = 0;
    uint64_t bytes = 0;
  };
  std::vector<Span> SleepingIn(CUdeviceptr va, uint64_t bytes);

 private:
  using Records = std::unordered_map<Handle, HandleRecord>;

  bool AnyAway() const { return map_.totals().away.load(std::memory_order_relaxed) != 0; }
  // All under the map's lock.
  void Enter(HandleRecord&& record);
  HandleRecord TakeOut(Records::iterator place);
  void Update(HandleRecord* record);
  static HandleRecord* RecordAt(AddressMap::Occupant& occupant);
  // Runs `use(va, occupant, record)` on each mapping that begins in [va, va + bytes).
  template <typename Use>
  void ForMappingsIn(CUdeviceptr va, uint64_t bytes, Use use);

  AddressMap& map_;
  Records records_;  // under the map's lock
};

}  // namespace gpuroom
