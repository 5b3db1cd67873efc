// How fast ranges move between the host and the device at their addresses, by the
// mover of the core: copies, mapping and unmapping together.
#pragma once

#include <string>

#include "measure/machine.h"

namespace gpuroom::measure {

// Bytes per second of what was moved.
struct MigrationSpeeds {
  uint64_t bytes = 0;  // of a range
  double to_device = 0;
  double to_host = 0;  // into host chunks that are kept, as they are once a program runs
  double both = 0;     // two ranges that change places, added up
  std::string skipped;
};

// The size to measure with, at most `bytes`: two such ranges, and what is in flight
// between them, have to fit. 0: there is no host tier, or too little.
uint64_t MigrationBytes(Machine& machine, uint64_t bytes);

// The best of `rounds`, contents checked. kOutOfMemory when a tier has less.
Result<MigrationSpeeds> MeasureMigration(Machine& machine, uint64_t bytes, int rounds);

}  // namespace gpuroom::measure
