// Sleep and wake of this process's memory: from tags to what the engine does, in a standstill, over all
// devices at once. Called from within an Entry; several threads go one after the other.
#pragma once

#include <optional>
#include <vector>

#include "runtime/runtime.h"
#include "sleep/engine.h"

namespace gpuroom {

// Nanoseconds, for threads and for GPUs each: who asks for a sleep would rather wait than be refused.
inline constexpr uint64_t kSleepPatience = 30000000000;

// None: stays awake.
using TagVerdict = std::optional<SleepAction>;

struct SleepRequest {
  struct Named {
    TagId tag = kUntagged;
    TagVerdict verdict;
  };
  // At most as much of one device's memory, the oldest first, as it takes until `used` bytes of its HBM are
  // in use.
  struct Part {
    CUdevice device = 0;
    uint64_t used = 0;
  };

  std::vector<Named> tags;
  TagVerdict rest;           // of what no entry names
  Hold hold = Hold::kCheck;  // until nothing is asleep any more
  SleepSettings settings;
  std::optional<Part> part;  // none: all of every device
  uint64_t patience = kSleepPatience;
};

struct SleepAnswer {
  SleepCounts counts;
  // Bytes that were named and cannot sleep: pinned, not mapped, managed, or below the threshold. Of the last
  // two no tag is known: they count as untagged.
  uint64_t left_awake = 0;
};

// As gpuroom_sleep, and as PutToSleep of engine.h.
Status Sleep(Runtime& rt, const SleepRequest& request, SleepAnswer* answer);

struct WakeRequest {
  std::vector<TagId> tags;  // in this order
  bool everything = false;  // whatever the tag, the oldest first
  bool lazy = false;
  bool what_fits = false;  // no more than HBM has room for now; the rest stays asleep
  bool anywhere = false;   // what HBM has no room for wakes in host memory
};

// As gpuroom_wake, and as WakeUp. Where the hooks stand in front, large data that is awake gives way to
// what wakes, and what a lazy wake leaves in host memory is moved back in the background.
Status Wake(Runtime& rt, const WakeRequest& request, WakeCounts* counts);

// A device's HBM, in bytes.
struct HbmUse {
  CUdevice device = 0;
  uint64_t movable = 0;  // what could be put to sleep
  uint64_t asleep = 0;   // what a wake of all that sleeps takes
  uint64_t outside = 0;  // what belongs in it and lies in host memory
};

// Of every device that has either.
std::vector<HbmUse> HbmUses(Runtime& rt);

// Bytes by tag and state.
struct TagState {
  TagId tag = kUntagged;
  uint64_t ranges = 0;
  uint64_t awake = 0;
  uint64_t awake_on_gpu = 0;  // of these
  AsleepBytes asleep;
};

// Of every tag that memory has. Memory that is the driver's own, below the threshold, counts as
// untagged and awake; managed memory does not count.
std::vector<TagState> States(Runtime& rt);

}  // namespace gpuroom
