// Pool: a caching, stream-ordered suballocator of one device's memory.
//
// A block belongs to the stream it was allocated on. Freed there it can be had
// again there at once, as the stream's order protects it. What was freed on
// another stream, or recorded on others, waits for events. Memory goes from one
// stream to another only by an event that the taking stream waits for, or once
// the device was idle.
//
// Threads: any, at once. Allocating and freeing a size that this thread has
// cached takes no shared lock. Threads may outlive the pool, and it them; nobody
// calls a pool that is being destroyed.
//
// All that is more than the hot path happens in one context of the pool's device:
// PoolOptions::context, or, where that is null, the current one, which is then always the same.
//
// Streams: 0 is the legacy stream. The pool uses a handle in the calls that name
// it, and later only where blocks of that stream are wanted by another. So a
// stream that was used here and is to be destroyed has to be announced
// (StreamEnds); one that is not may leave the driver with a dead handle. PyTorch
// never destroys its streams.
//
// Captures: while a private pool's route is open the pool takes a capture to be
// under way and neither records, asks nor waits. Of other captures it only has to
// know what PoolOptions::synchronize says; events on a stream that is being captured
// are put off.
#pragma once

#include <atomic>
#include <functional>
#include <vector>

#include "base/mutex.h"
#include "driver/driver.h"
#include "pool/central.h"
#include "pool/pending.h"
#include "pool/routes.h"
#include "pool/source.h"
#include "pool/stats.h"
#include "pool/thread_fronts.h"

namespace gpuroom {

struct PoolOptions {
  CUcontext context = nullptr;  // made current for what the pool does, whichever is then
  bool may_spill = true;        // before failing, ask for segments outside HBM
  uint64_t limit = UINT64_MAX;  // bytes in segments
  // Waits for all of the device's work; kBusy where a capture forbids that. Unset: cuCtxSynchronize.
  std::function<Status()> synchronize;
};

class Pool {
 public:
  Pool(const Driver& driver, SegmentSource& source, PoolOptions options = {});
  // Gives all segments back, whatever is in use. Keeps them where the device cannot be waited for.
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // At least `bytes`, at a multiple of 512, for use on `stream`. 0 bytes are kInvalidArgument: there is
  // no address to give. kOutOfMemory, or the source's own failure, when everything was tried;
  // the pool is as usable as before.
  Result<CUdeviceptr> Allocate(uint64_t bytes, CUstream stream);

  // `stream`: the last that used it, beside those that RecordStream named. kNotFound: no block begins
  // there; kInvalidArgument: it is free already. Nothing has changed then.
  Status Free(CUdeviceptr va, CUstream stream);

  // The block is in use on that stream too: its free will wait for what the stream has by then.
  Status RecordStream(CUdeviceptr va, CUstream stream);

  // The segment around an address within a block that is in use, as PyTorch's base_alloc means it,
  // or the block itself. false: there is none.
  bool Find(CUdeviceptr inside, CUdeviceptr* base, uint64_t* bytes) const;
  bool FindBlock(CUdeviceptr inside, CUdeviceptr* base, uint64_t* bytes) const;

  // Waits for the device and gives segments back that are wholly free; the bytes given back. Nothing
  // while a private pool's route is open.
  uint64_t Trim();
  // Of bytes in segments. What is there stays; new segments are refused beyond it.
  void SetLimit(uint64_t bytes) { central_.SetLimit(bytes); }

  // Private pools (routes.h). Begin waits while another thread waits for the device, or gives a segment back.
  void BeginAllocateTo(PoolId id, StreamFilter filter);
  void EndAllocateTo(PoolId id) { routes_.End(id); }
  void ReleasePool(PoolId id) { routes_.Release(id); }

  // The program is about to destroy the stream, and submits nothing to it any more. Waits for its work,
  // so that its blocks are fit for others.
  Status StreamEnds(CUstream stream);

  PoolStats Stats() const;

 private:
  enum class Effort {
    kGain,  // wait for the device only where that frees segments
    kAll,   // wait for it in any case: neighbours of several streams may join
  };

  Result<CUdeviceptr> AllocateSlow(uint64_t bytes, StreamKey key, CUstream stream);
  Status FreeSlow(Block* block, StreamKey key);
  Block* FromStore(const Want& want);
  Block* Grow(const Want& want, SegmentSource::Where where, Status* why);
  Block* AfterReclaim(const Want& want, Effort effort, Status* why);
  Block* TakeOver(const Want& want);

  void CollectPending();
  uint64_t Reclaim(Effort effort);
  Status WaitForDevice() const;
  Status Quiet(uint64_t* cut);
  bool Destroy(const Segment& segment);
  uint64_t DestroyIdle();

  const Driver& driver_;
  SegmentSource& source_;
  const PoolOptions options_;
  Mutex quiet_mutex_;  // held while the device is or may be waited for: no capture begins meanwhile
  std::atomic<uint64_t> creates_{0};
  std::atomic<uint64_t> destroys_{0};
  std::atomic<uint64_t> retries_{0};
  std::atomic<uint64_t> handovers_{0};
  std::atomic<uint64_t> out_of_memory_{0};
  Central central_;
  Pending pending_;
  Routes routes_;
  Fronts fronts_;  // last: ends first
};

}  // namespace gpuroom
