// What `gpuroom bench tiers` keeps of a measurement for `gpuroom run`. Pure.
#pragma once

#include <string>

#include "cli/bench_report.h"
#include "cli/link_cache.h"

namespace gpuroom {

// Fills `entry` with the measured speeds; or says, in one sentence, why there is nothing to keep.
std::string LinkEntryOf(const BenchSubject& subject, const measure::TiersResult& result, LinkEntry* entry);

}  // namespace gpuroom
