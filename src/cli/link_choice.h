// Which link speeds a run's plans rest on: those that were measured on this GPU
// with this driver, else the shim's estimates.
#pragma once

#include <optional>
#include <string>

#include "cli/link_cache.h"
#include "topology/link_speeds.h"

namespace gpuroom {

struct LinkChoice {
  enum class Source {
    kEstimated,  // nobody measured; the shim asks the driver and the bus
    kMeasured,   // `gpuroom bench tiers`
    kGiven,      // GPUROOM_LINK_SPEEDS was set already, by an outer run or the user
  };
  Source source = Source::kEstimated;
  LinkSpeeds speeds;     // not for kEstimated
  std::string measured;  // when, for kMeasured
  std::string warning;   // one sentence on a cache that cannot be used; else empty

  const char* SourceName() const;  // "estimated", "measured" or "given"
  std::string Sentence() const;    // "measured 2026-11-21T12:00:00Z: HBM 4560, peers 375, host 51 GB/s"
};

// "HBM 4560, peers 375, host 51 GB/s"
std::string DescribeSpeeds(const LinkSpeeds& speeds);

// `given` is the variable's text, checked. The first GPU counts, as CUDA orders those that CMD will
// see. Asks the driver, in a child process, only where the cache has speeds for this driver.
LinkChoice ChooseLinks(const std::string& sim_profile, const std::optional<std::string>& given);

}  // namespace gpuroom
