// How much managed memory a device may have, and why no more: a pure function of what
// the user allows and what the machine has, so that `gpuroom run --dry-run` says the
// same as the process that allocates.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/size.h"
#include "base/status.h"

namespace gpuroom {

struct ManagedOptions {
  uint64_t prefetch_below = 2 * kGiB;   // bytes; with Policy::kGpuFirst
  double ratio = 5.0;                   // the cap in times the HBM
  bool allow_oversubscription = false;  // more than the device has free also without a coherent link
};

struct ManagedMachine {
  uint64_t hbm = 0;       // bytes that the process may use of the device's own memory
  uint64_t host = 0;      // the host limit, 0: none
  bool coherent = false;  // the device uses the host's page tables (NVLink-C2C, integrated)
};

struct ManagedCap {
  enum class Bound : uint8_t { kRatio, kHost, kDevice };
  uint64_t bytes = 0;  // a multiple of kGranularity
  Bound bound = Bound::kRatio;
  // Also no more than the device has free at each allocation.
  bool only_free = false;
};

// min(ratio * HBM, HBM + host); at most the HBM, and `only_free`, on a machine that is not
// coherent unless oversubscription is allowed.
ManagedCap CapOf(const ManagedOptions& options, const ManagedMachine& machine);

// Why it is no more and which option changes that, for the end of a sentence.
std::string WhyBound(ManagedCap::Bound bound, const ManagedOptions& options);

// A number from 0.1 to 100; "5", "1.5".
Result<double> ParseRatio(std::string_view text);

}  // namespace gpuroom
