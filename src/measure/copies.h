// The physical references: what the copy engines move between pinned host memory
// and the device, and how fast host chunks are created.
#pragma once

#include "measure/machine.h"

namespace gpuroom::measure {

// Bytes per second.
struct CopySpeeds {
  double host_to_device = 0;
  double device_to_host = 0;
  double both = 0;  // at once, the two added up
};

// The best of `rounds`. Takes at most `most` bytes of either side, or two granules where that is less.
Result<CopySpeeds> MeasureCopies(Session& session, uint64_t most, int rounds);

// Creates `bytes` of host chunks of `chunk_bytes` each and gives them back; bytes
// per second of the creation.
Result<double> MeasureHostCreation(HostTier& host, uint64_t bytes, uint64_t chunk_bytes);

}  // namespace gpuroom::measure
