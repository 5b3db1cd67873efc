// What `headroom bench tiers` says: one JSON document (docs/cli.md has its fields),
// or tables for people. Pure: results in, text out.
#pragma once

#include <string>

#include "measure/tiers.h"

namespace headroom {

struct TiersReport {
  bool simulated = false;  // the figures are then this machine's, not a GPU's
  Gpu gpu;
  std::string driver;    // as DriverIdentity gives it
  int cuda = 0;          // 13000 = 13.0
  std::string measured;  // UTC
  measure::TiersResult result;
  std::string stored;      // file that keeps the speeds for `headroom run`
  std::string not_stored;  // or why there is none
};

std::string TiersJson(const TiersReport& report);
std::string TiersText(const TiersReport& report);

}  // namespace headroom
