// Intent: what the program, the user and the rules want of one allocation.
#pragma once

#include <optional>

#include "runtime/runtime.h"

namespace gpuroom {

// What a thread says of all that it allocates from now on; rules outweigh it.
struct ThreadIntent {
  std::optional<Policy> policy;
  std::optional<Backend> backend;
  Hint hint = Hint::kNone;
  TagId tag_id = kUntagged;
  bool dispensable = false;  // as Placed::dispensable
  const char* tag = "";      // TagName(tag_id)

  void SetTag(const char* text);  // IsTag(text), or ""
};
ThreadIntent& IntentOfThread();
// What threads say that have said nothing yet. Before there are several.
ThreadIntent& IntentAtFirst();

// Enters into a fresh record what the thread says of it beside its place.
void MarkByThread(Placed* placed);

// The plan request for `bytes` of the calling thread; `resident` and `displaceable`, which a device decides,
// are left as they are.
PlanRequest IntentFor(const Runtime& rt, uint64_t bytes);
// The same on a device, with `resident`.
PlanRequest IntentFor(const Runtime& rt, const DeviceState& device, uint64_t bytes);

// Whether a request of the calling thread for `bytes` is served apart from the driver's own allocator: from
// the range threshold on, and with a tag from kGranularity on, since tagged memory is to sleep. Managed
// memory does not sleep and keeps the threshold.
inline bool IsLarge(const Runtime& rt, uint64_t bytes) {
  if (bytes >= rt.options.range_threshold) return true;
  return IntentOfThread().tag_id != kUntagged && bytes >= kGranularity &&
         IntentFor(rt, bytes).backend == Backend::kTiers;
}

// Whether memory so placed goes back to HBM when that has room again.
bool WantsDevice(const PlanRequest& request);

}  // namespace gpuroom
