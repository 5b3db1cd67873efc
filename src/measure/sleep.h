// How fast memory goes to sleep and wakes, by the engine of the core, against what
// others do: one synchronous copy per allocation into fresh pinned memory.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "measure/copies.h"
#include "measure/machine.h"
#include "range/asleep.h"

namespace gpuroom::measure {

// One way of doing it. Bytes per second of all that slept, everything included; 0: not measured.
struct SleepSpeeds {
  double sleep = 0;  // the slowest of all rounds, and so the wake's: each of them counts
  double wake = 0;
  double best_sleep = 0;
  double best_wake = 0;
  int rounds = 0;
};

// Seconds from the call to wake.
struct LazyTimes {
  double returned = 0;        // until the call is back, everything mapped
  double first_kernel = 0;    // until a kernel has read the first allocation
  double back = 0;            // until all is in HBM again, by the mover
  uint64_t left_on_host = 0;  // bytes, when the call came back
};

// So many bytes in so many allocations of the same size.
struct SleepCase {
  uint64_t bytes = 0;
  int allocations = 0;
  uint64_t freed = 0;   // bytes by which the driver's own figure of free memory rose while all slept
  SleepSpeeds first;    // no host memory created ahead
  SleepSpeeds ahead;    // host chunks for all of it created ahead
  SleepSpeeds copying;  // the others' way
  SleepSpeeds disk;     // with SleepRequest::directory
  LazyTimes lazy;       // with host chunks created ahead
  std::string skipped;
  bool beyond_host = false;  // skipped since the machine's limit on host memory leaves less
};

struct SleepRequest {
  std::vector<uint64_t> sizes;  // bytes, of the cases
  int allocations = 200;        // at most; none is smaller than 2 MiB
  int rounds = 1;               // of `ahead`; the slow ones are measured once
  std::string directory;        // "": nothing is measured on disk
  std::function<void(const std::string&)> progress;
};

struct SleepResult {
  CopySpeeds copies;  // of pinned memory: what the link can do
  std::vector<SleepCase> cases;
};

// Contents are checked after every wake. A case for which memory is too small is skipped with a reason;
// any other failure ends it.
Status MeasureSleep(Machine& machine, const SleepRequest& request, SleepResult* result);

}  // namespace gpuroom::measure
