// Gate: what every hook passes that submits work or changes mappings, so that a
// migration can keep all others out. Passing costs one atomic store and one load;
// closing waits until those inside have left. One gate per process.
//
// While memory sleeps the gate also says what becomes of submissions (Hold): it is part of the one word that
// passing loads, so that it costs nothing while nothing sleeps.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "base/clock.h"

namespace gpuroom {

// What submissions meet.
enum class Hold : uint8_t {
  kNone,   // nothing: no memory is asleep
  kCheck,  // those whose arguments lie in memory that is asleep are refused
  kWait,   // all wait until the hold ends
  kAsk,    // the same, and those who wait ask for its end (Gate::AskBy)
  kFail,   // all are refused
  kLost,   // all are refused, for good: memory that they may touch could not be mapped again
};

class Gate {
 public:
  // Around a hook, outermost only. Enter waits while the gate is closed.
  static void Enter();
  static void Leave();
  // The same for what submits work: waits, outside, while submissions are to wait. What it is to
  // do instead of submitting: kNone (nothing, go on), kCheck, kFail or kLost.
  static Hold EnterToSubmit();

  // By who has closed the gate; holds from its opening on. Who waits goes on or is refused as it says.
  // After RefuseForGood it changes nothing.
  static void SetHold(Hold hold);
  // Submissions meet kLost from now on, for good. By who has closed the gate, or where no program is behind
  // it.
  static void RefuseForGood();
  static Hold hold();
  // From inside the gate, where nothing sleeps any more: who waits goes on.
  static void EndHold();
  // How many holds there have been, so that each is told of once.
  static uint32_t holds();
  // From outside the gate: returns when submissions need not wait.
  static void AwaitHold();
  // Under kAsk, who is about to wait calls `ask` first, from outside the gate; it returns at once. Null:
  // nobody is asked.
  static void AskBy(void (*ask)());
  // Whether anything was submitted since Watch() was last called. Of all submissions after that, the first
  // alone pays for it.
  static void Watch();
  static bool SubmittedSinceWatch();
  // This thread ends the process: what it still submits is refused rather than waiting for good.
  static void NeverWaitHere();
  static bool NeverWaits();

  // Keeps other threads out and waits until those inside have left. False, with the gate open
  // again, if that takes longer than `timeout` nanoseconds. The caller is inside; another thread's
  // closing may come and go before its own, so that it may rest on nothing it knew of mappings.
  static bool Close(uint64_t timeout);
  static void Open();

  // In the child after fork(): other threads are gone, and are no longer inside. Nothing is held.
  static void ForgetAfterFork();
};

// In a hook's own thread: how deep it is in hooks, so that calls from inside pass through.
// Initial-exec: this library is preloaded, so its slot is in the static TLS block
// and reading it neither calls nor allocates.
extern __attribute__((tls_model("initial-exec"))) thread_local int t_depth;

}  // namespace gpuroom
