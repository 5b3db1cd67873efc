// HbmWaits: threads of a program that shares its GPUs with others and needs more HBM than it has been
// granted. They wait outside the gate, so that this process's own memory may move meanwhile. Whoever speaks
// with the arbiter (src/share) hears of them, raises the grants of the device tiers and lets them look again.
//
// Any thread. Nothing here allocates. Where programs do not share, nothing waits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "tier/device_tier.h"

namespace gpuroom {

// What a program that shares its GPUs does now.
enum class ShareState : uint8_t {
  kNone,   // it does not share
  kIdle,   // it has launched nothing for a while
  kRuns,   // it has
  kWaits,  // a launch or an allocation of it waits for HBM
  kOut,    // memory of it was moved out for others, and nothing waits for that
};

class HbmWaits {
 public:
  // As whoever speaks with the arbiter says.
  ShareState state() const { return state_.load(std::memory_order_relaxed); }
  void SetState(ShareState state) { state_.store(state, std::memory_order_relaxed); }

  // Whether HBM is granted. Off until TurnOn, and for good after TurnOff, which lets all go on.
  bool on() const { return on_.load(std::memory_order_acquire); }
  void TurnOn() { on_.store(true, std::memory_order_release); }
  void TurnOff();

  // `listener` is called, from any thread, when there is a new request. It returns at once.
  void ListenBy(void (*listener)()) { listener_.store(listener, std::memory_order_release); }

  // From within a hook: returns once `bytes` can be claimed of `tier` so that `keep` stay free, or will not
  // be granted. Nothing that was known of mappings holds afterwards.
  void Await(const DeviceTier& tier, uint64_t bytes, uint64_t keep);

  // Bytes that all who wait need of `tier` together, what they keep free included; 0: nobody waits.
  uint64_t Wanted(const DeviceTier& tier);
  // A grant has changed: who has enough goes on.
  void LookAgain() { changed_.notify_all(); }
  // Who waits goes on without.
  void Refuse();

 private:
  // On its thread's stack.
  struct Waiting {
    const DeviceTier& tier;
    const uint64_t bytes;
    const uint64_t keep;
    bool refused = false;
    Waiting* next = nullptr;

    bool HasEnough() const;
  };

  std::atomic<bool> on_{false};
  std::atomic<ShareState> state_{ShareState::kNone};
  std::atomic<void (*)()> listener_{nullptr};
  std::mutex mutex_;
  std::condition_variable changed_;
  Waiting* first_ = nullptr;  // under mutex_
};

}  // namespace gpuroom
