// The GPU's view of addresses: which bytes lie behind a device address, and who
// may touch them. Reservations are PROT_NONE spans of this process, so that a
// host pointer into device memory faults as it does with a real driver; regions
// lie in them (or, for host memory, where the program's bytes are) and lead to
// a chunk's alias. All under the State's lock.
#pragma once

#include <cuda.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>

#include "physical.h"

namespace gpuroom::sim {

inline constexpr int kMaxDevices = 16;

enum class RegionKind { kAlloc, kVmm, kManaged, kHost, kPool, kImported };

// Rights of every device and of the host; two regions side by side with
// different sets make a memset over both fail (the uniform access rule).
struct AccessSet {
  std::array<uint8_t, kMaxDevices> device{};  // CUmemAccess_flags
  uint8_t host = 0;
  bool operator==(const AccessSet&) const = default;
};

struct Region {
  CUdeviceptr start = 0;
  uint64_t bytes = 0;      // accessible
  uint64_t requested = 0;  // as the program asked
  RegionKind kind = RegionKind::kAlloc;
  char* data = nullptr;  // the executor's pointer to the bytes of `start`
  int device = 0;        // owner: where it was allocated or registered
  CUcontext context = nullptr;
  AccessSet access;
  ChunkPtr chunk;  // null: host or managed memory
  uint64_t chunk_offset = 0;
  uint64_t id = 0;            // CU_POINTER_ATTRIBUTE_BUFFER_ID
  unsigned flags = 0;         // of cuMemHostAlloc, cuMemHostRegister, cuMemAllocManaged
  bool registered = false;    // host memory that the program brought
  bool freed = false;         // a pool block given back in stream order
  bool free_pending = false;  // the same, but the stream is not there yet
  CUmemoryPool pool = nullptr;
  CUmemLocation preferred{CU_MEM_LOCATION_TYPE_INVALID, 0};  // managed advice
  CUmemLocation last_prefetch{CU_MEM_LOCATION_TYPE_INVALID, 0};
  bool read_mostly = false;
  std::array<bool, kMaxDevices + 1> accessed_by{};  // managed advice; last: the host
  CUdeviceptr end() const { return start + bytes; }
};

struct Reservation {
  CUdeviceptr start = 0;
  uint64_t bytes = 0;
};

class VaTable {
 public:
  // A PROT_NONE span, aligned to `alignment` (a power of two); 0 when there is
  // none. `hint` is tried first.
  static CUdeviceptr ReserveSpan(uint64_t bytes, uint64_t alignment, CUdeviceptr hint);
  static void FreeSpan(CUdeviceptr start, uint64_t bytes);

  Region* Find(CUdeviceptr address);
  Region* Add(Region region);
  void Remove(CUdeviceptr start) { regions_.erase(start); }
  bool Overlaps(CUdeviceptr start, uint64_t bytes);
  // Whether regions cover [start, start + bytes) with no hole.
  bool Covered(CUdeviceptr start, uint64_t bytes);
  // In address order, each region that touches the span.
  void ForEach(CUdeviceptr start, uint64_t bytes, const std::function<void(Region&)>& visit);
  std::map<CUdeviceptr, Region>& regions() { return regions_; }

  std::map<CUdeviceptr, Reservation>& reservations() { return reservations_; }
  // The reservation that holds the whole span, or null.
  Reservation* FindReservation(CUdeviceptr start, uint64_t bytes);

 private:
  std::map<CUdeviceptr, Region> regions_;
  std::map<CUdeviceptr, Reservation> reservations_;
};

}  // namespace gpuroom::sim
