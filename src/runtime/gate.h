// Gate: what every hook passes that submits work or changes mappings, so that a
// migration can keep all others out. Passing costs one atomic store and one load;
// closing waits until those inside have left. One gate per process.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "base/clock.h"

namespace headroom {

class Gate {
 public:
  // Around a hook, outermost only. Enter waits while the gate is closed.
  static void Enter();
  static void Leave();

  // Keeps other threads out and waits until those inside have left. False, with the gate open
  // again, if that takes longer than `timeout` nanoseconds. The caller is inside; another thread's
  // closing may come and go before its own, so that it may rest on nothing it knew of mappings.
  static bool Close(uint64_t timeout);
  static void Open();

  // In the child after fork(): other threads are gone, and are no longer inside.
  static void ForgetAfterFork();
};

// In a hook's own thread: how deep it is in hooks, so that calls from inside pass through.
// Initial-exec: this library is preloaded, so its slot is in the static TLS block
// and reading it neither calls nor allocates.
extern __attribute__((tls_model("initial-exec"))) thread_local int t_depth;

}  // namespace headroom
