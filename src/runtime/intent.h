// Intent: what the program, the user and the rules want of one allocation.
#pragma once

#include <array>
#include <optional>

#include "runtime/runtime.h"

namespace headroom {

// What a thread says of all that it allocates from now on; rules outweigh it.
struct ThreadIntent {
  std::optional<Policy> policy;
  std::optional<Backend> backend;
  Hint hint = Hint::kNone;
  std::array<char, kMaxTag + 1> tag{};  // "": none
};
ThreadIntent& IntentOfThread();

// The plan request for `bytes` of the calling thread; `displaceable` is left 0.
PlanRequest IntentFor(const Runtime& rt, uint64_t bytes);

// Whether memory so placed goes back to HBM when that has room again.
bool WantsDevice(const PlanRequest& request);

}  // namespace headroom
