// What `headroom bench tiers` keeps of a measurement for `headroom run`. Pure.
#pragma once

#include <string>

#include "cli/bench_report.h"
#include "cli/link_cache.h"

namespace headroom {

// Fills `entry` with the measured speeds; or says, in one sentence, why there is nothing to keep.
std::string LinkEntryOf(const BenchSubject& subject, const measure::TiersResult& result, LinkEntry* entry);

}  // namespace headroom
