// What `gpuroom bench tiers` says: one JSON document (docs/cli.md has its fields),
// or tables for people. Pure: results in, text out.
#pragma once

#include <string>

#include "cli/bench_machine.h"
#include "measure/tiers.h"

namespace gpuroom {

struct TiersReport {
  BenchSubject subject;
  measure::TiersResult result;
  std::string stored;      // file that keeps the speeds for `gpuroom run`
  std::string not_stored;  // or why there is none
};

std::string TiersJson(const TiersReport& report);
std::string TiersText(const TiersReport& report);

}  // namespace gpuroom
