// Pending: freed blocks that other streams may still use, and the events that
// tell when they no longer do.
//
// At a free, an event is recorded on each stream in question; the block waits
// until all of them are done. Where recording is not possible just now (a capture
// is under way, the stream is another thread's per-thread one, the driver
// fails) it is tried again later, and an idle device answers for all.
//
// Any thread. Its lock is held during the driver's calls here, none of which
// waits but Synchronize's, which is made without. A context has to be current.
#pragma once

#include <atomic>
#include <deque>
#include <list>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "driver/driver.h"
#include "pool/block.h"

namespace gpuroom {

class Pending {
 public:
  explicit Pending(const Driver& driver) : driver_(driver) {}
  ~Pending();
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;

  // The live block is in use on that stream too.
  void AddUse(Block* block, StreamKey key);
  // What AddUse said of a block, which is then forgotten.
  std::vector<StreamKey> TakeUses(Block* block);

  // Takes charge of a freed block until `uses` are done with it. may_ask: no capture forbids events.
  void Hold(Block* block, std::vector<StreamKey> uses, uint64_t freed_at, bool may_ask);
  bool empty() const { return bytes_.load(std::memory_order_relaxed) == 0; }
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

  // Chains of blocks (next_held) that are done: by asking, or since the device was idle after `cut`.
  Block* Done();
  Block* DoneBefore(uint64_t cut);
  // That stream's work is done, and the stream ends: nothing waits for it any more.
  Block* DoneWith(StreamKey key, uint64_t cut);

  // Work on `after` from now on waits for what `before` has now. false: could not be arranged.
  bool Order(StreamKey before, CUstream after);
  // Waits for what the stream has now.
  Status Synchronize(CUstream stream);

 private:
  struct Waiting {
    Block* block = nullptr;
    uint64_t freed_at = 0;
    size_t recorded = 0;               // events not yet done
    std::vector<StreamKey> to_record;  // uses without an event
  };
  using Place = std::list<Waiting>::iterator;

  bool Capturing(CUstream stream) const;
  CUevent GetEvent() GPUROOM_REQUIRES(mutex_);
  CUevent Record(StreamKey key) GPUROOM_REQUIRES(mutex_);
  void RecordUses(Place place) GPUROOM_REQUIRES(mutex_);
  void Finish(Place place, Block** chain) GPUROOM_REQUIRES(mutex_);
  void AskStream(std::deque<std::pair<CUevent, Place>>& events, Block** chain) GPUROOM_REQUIRES(mutex_);
  void RecordLeft() GPUROOM_REQUIRES(mutex_);
  void ForgetEvents(uint64_t cut) GPUROOM_REQUIRES(mutex_);

  const Driver& driver_;
  std::atomic<uint64_t> bytes_{0};
  Mutex mutex_;
  std::unordered_map<Block*, std::vector<StreamKey>> uses_ GPUROOM_GUARDED_BY(mutex_);
  std::list<Waiting> waiting_ GPUROOM_GUARDED_BY(mutex_);
  // In the order of recording, so that the first that is not done answers for the rest.
  std::map<StreamKey, std::deque<std::pair<CUevent, Place>>> events_ GPUROOM_GUARDED_BY(mutex_);
  std::vector<CUevent> spare_ GPUROOM_GUARDED_BY(mutex_);
  bool some_left_ GPUROOM_GUARDED_BY(mutex_) = false;  // uses without an event
};

}  // namespace gpuroom
