// Failure injection and call counts. A CallSite is one entry point's counter;
// sites of the same function's versions share its name. Rules are set by
// GPUROOM_SIM_FAIL or gpuroom_sim_fail. Under the State's lock, but for the
// counters, which are atomic.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>

namespace gpuroom::sim {

struct CallSite {
  explicit CallSite(const char* function_name);
  const char* name;
  std::atomic<uint64_t> calls{0};
  CallSite* next = nullptr;
};

// Replaces all rules; null or "" clears.
void SetFailureRules(const char* spec);

// CUDA_SUCCESS, or what a rule makes of this call.
CUresult InjectedFailure(const char* name);
// The same by rules for NAME.KIND, which are about calls of one kind alone.
CUresult InjectedFailure(const char* name, const char* kind);

uint64_t CallCount(const char* name);

}  // namespace gpuroom::sim
