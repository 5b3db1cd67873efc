// What `gpuroom bench tiers` measures: every tier that one GPU can use, alone and
// mixed with its own memory, the same for managed memory, and the references to
// hold it against. Plain results; printing them is the front's.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "measure/copies.h"
#include "measure/machine.h"
#include "measure/migration.h"

namespace gpuroom::measure {

// A range of `slow_bytes` in the slower tier and the rest on the device.
struct SharePoint {
  double share = 0;  // as asked for; slow_bytes is a whole number of granules
  uint64_t slow_bytes = 0;
  Speeds interleaved;
  Speeds tail;   // the same as interleaved where all lies in one tier
  Speeds ideal;  // IdealSpeed of the device alone and this series' last point
};

// All shares with one slower tier.
struct TierSeries {
  Place slow;
  std::vector<SharePoint> points;  // as kShares; empty: not measured
  std::string skipped;             // why not

  Speeds Alone() const { return points.empty() ? Speeds{} : points.back().interleaved; }
};

struct ManagedPoint {
  double share = 0;
  uint64_t slow_bytes = 0;
  Speeds direct;
  Speeds fault;
};

struct ManagedSeries {
  uint64_t bytes = 0;  // less than the ranges': managed.h says why
  std::vector<ManagedPoint> points;
  std::string skipped;
};

// One tier alone.
struct LinkSpeed {
  Place place;
  Speeds speeds;
  std::string skipped;
};

struct HostCreation {
  uint64_t bytes = 0;
  uint64_t chunk_bytes = 0;
  double bytes_per_second = 0;
};

struct TiersResult {
  uint64_t bytes = 0;  // of each range
  int rounds = 0;
  TierSeries host;
  TierSeries peer;  // with the nearest peer
  std::vector<LinkSpeed> links;
  ManagedSeries managed;
  CopySpeeds copies;  // 0: not measured
  std::vector<HostCreation> creation;
  MigrationSpeeds migration;
};

struct TiersRequest {
  uint64_t bytes = 0;  // a multiple of kGranularity that each tier has free
  int rounds = 1;
  std::function<void(const std::string&)> progress;  // what is being measured now
};

// A tier that has too little is skipped with a reason; any other failure ends it.
Status MeasureTiers(Machine& machine, const TiersRequest& request, TiersResult* result);

}  // namespace gpuroom::measure
