// Allocations: the addresses that my_malloc gave out, and the physical memory behind each, which comes and
// goes.
//
// What a caller says of an allocation is never believed: sizes, devices and handles are those of the record
// made here. A step that fails leaves what was there before it; what cannot be given back at once is
// remembered and given back by a later call. All of it under one lock, any thread; nothing here knows Python,
// and the lock is never held while Python is called.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <vector>

#include "base/mutex.h"
#include "cumem/record.h"

namespace gpuroom::cumem {

// What the malloc callback gets. The addresses of handles hold until the allocation is freed.
struct Grant {
  struct Piece {
    uint64_t handle_address = 0;
    uint64_t bytes = 0;
  };
  int device = 0;
  uint64_t bytes = 0;
  uint64_t va = 0;
  std::vector<Piece> pieces;
  bool listed = false;  // as a list, also of one: HIP
};

// What a caller of python_* says: the allocation at `va`, and where its handles are.
struct Claim {
  uint64_t va = 0;
  uint64_t first_handle = 0;
  size_t handles = 1;
};

class Allocations {
 public:
  // Reserves addresses for `size` bytes and makes a record of them, without memory. False with *error set:
  // nothing was done. May throw std::bad_alloc, with nothing done.
  bool Reserve(ssize_t size, int device, Grant* grant, Error* error) GPUROOM_EXCLUDES(mutex_);

  // Makes memory and maps it at the reserved addresses. All or nothing. Refused where it is mapped.
  bool CreateAndMap(const Claim& claim, Error* error) GPUROOM_EXCLUDES(mutex_);

  // Waits for the device, then gives the memory back; the addresses stay reserved. Where a chunk cannot be
  // unmapped, all are mapped still, with their contents. Refused where nothing is mapped, and during a
  // capture.
  bool UnmapAndRelease(const Claim& claim, Error* error) GPUROOM_EXCLUDES(mutex_);

  // Waits for the device, then gives memory and addresses back. False: the address is not one of ours, and
  // nothing was done; or something could not be given back now, and a later call tries it again.
  bool Free(uint64_t va, Error* error) GPUROOM_EXCLUDES(mutex_);

  // Whether my_malloc gave the address and it is in use; else *error says so.
  bool Knows(uint64_t va, Error* error) GPUROOM_EXCLUDES(mutex_);

  // Addresses reserved now, with those that are still to be given back.
  size_t count() GPUROOM_EXCLUDES(mutex_);

 private:
  using Records = std::map<uint64_t, Record>;

  bool Start(int device, Error* error) GPUROOM_REQUIRES(mutex_);
  Record* Find(uint64_t va, Error* error) GPUROOM_REQUIRES(mutex_);
  Record* Find(const Claim& claim, Error* error) GPUROOM_REQUIRES(mutex_);
  void RetryFreed() GPUROOM_REQUIRES(mutex_);

  Mutex mutex_;
  Operations* gpu_ GPUROOM_GUARDED_BY(mutex_) = nullptr;
  Records records_ GPUROOM_GUARDED_BY(mutex_);
  size_t freed_ GPUROOM_GUARDED_BY(mutex_) = 0;  // records that are still to be given back
};

}  // namespace gpuroom::cumem
