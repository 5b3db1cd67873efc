// ShareMember: this process's part in sharing its GPUs. A thread of ours tells the arbiter what HBM this
// process has and lacks, moves memory out when told to (src/sleep), and in when granted. The grants of the
// device tiers are what the arbiter counts for this process: nothing is claimed beyond them.
//
// While any of its memory is out, launches and copies of the process wait at the gate, and the first of them
// asks.
#pragma once

#include <atomic>
#include <deque>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "runtime/runtime.h"
#include "share/share_message.h"
#include "share/share_socket.h"

namespace gpuroom {

class ShareMember {
 public:
  ShareMember(std::string group, std::string arbiter)
      : group_(std::move(group)), arbiter_(std::move(arbiter)) {}
  ShareMember(const ShareMember&) = delete;
  ShareMember& operator=(const ShareMember&) = delete;

  // Starts the thread. Once.
  Status Start();
  // There is something new to look at. Any thread; returns at once.
  void Poke();
  // A launch waits for memory that was moved out. The same.
  void NoteLaunch();
  // Keeps the thread out of the core from now on; waits for a call that is in progress, `milliseconds` at
  // most.
  void Stop(int milliseconds);

 private:
  struct Gpu {
    DeviceState* device = nullptr;
    uint64_t counted = 0;  // bytes that the arbiter counts for us: the grant, and more while memory moves out
    uint64_t asked = 0;    // and that we wait for
    uint64_t arrived = 0;  // granted, and not in use yet
    uint64_t received = 0;     // granted by this arbiter in all
    uint64_t stuck_until = 0;  // a move failed: the arbiter hears then what is fixed; 0: none failed
  };
  struct Order {
    uint64_t id = 0;
    size_t gpu = 0;
    uint64_t bytes = 0;
  };

  void Run();
  void KeepPoke();
  bool Connect();
  void Introduce(Runtime& rt);
  void AskForMissing(Runtime& rt);
  std::vector<uint64_t> Away(Runtime& rt);
  void MoveOut(Runtime& rt, const Order& order);
  void MoveIn(Runtime& rt);
  void RetryStuck(Runtime& rt);
  void GiveBackUnused(Runtime& rt);
  void TellWhetherBusy();
  void WakeNow(Runtime& rt);
  void WishForReturns(Runtime& rt);
  void TellState(Runtime& rt);
  static void Settle(Gpu& gpu, uint64_t target);
  void HearAll(Runtime& rt);
  void Hear(Runtime& rt, const ShareMessage& message);
  void WaitForEvents();
  uint64_t Missing(Runtime& rt, const Gpu& gpu, uint64_t more) const;
  static void SetCounted(Gpu& gpu, uint64_t grant);
  void Say(const ShareMessage& message);
  void SayState(Runtime& rt, size_t number);
  void Lose();

  const std::string group_;
  const std::string arbiter_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> launch_waits_{false};

  Mutex core_;  // held while the core is called
  Mutex poking_;
  OwnDescriptor poke_ GPUROOM_GUARDED_BY(poking_);
  // The thread's alone.
  OwnDescriptor socket_;
  OwnDescriptor poked_;    // readable when there is something new: the other end of poke_
  std::vector<Gpu> gpus_;  // in the order that the arbiter was told of them
  std::deque<Order> orders_;
  bool connected_before_ = false;
  bool rejected_ = false;
  bool busy_ = false;     // as the arbiter was told
  uint64_t watched_ = 0;  // clock's nanoseconds
  // What a wake takes can never be had, or the driver has not given what was granted: it wakes elsewhere.
  bool refused_ = false;
  uint64_t fails_since_ = 0;     // of wakes; clock's nanoseconds; 0: the last one was well
  uint64_t wake_after_ = 0;      // the next try
  bool asks_to_return_ = false;  // most of what belongs in HBM lies outside
  uint64_t return_after_ = 0;    // when to wish for room for what lies outside HBM
};

// Where GPUROOM_SHARE_GROUP names a group, and once in a process. From within a hook, at each first use of a
// device.
void StartSharing();

}  // namespace gpuroom
