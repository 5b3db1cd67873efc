// PoolStats: what a pool says of itself. Gathered from all threads when asked for;
// while others allocate the figures are of about the same instant.
#pragma once

#include <cstdint>

namespace gpuroom {

struct PoolStats {
  // Bytes, now.
  uint64_t asked = 0;      // in use, as the program asked for them
  uint64_t allocated = 0;  // in use, as rounded to sizes
  uint64_t pending = 0;    // freed, and waiting for other streams
  uint64_t cached = 0;     // freed, in threads' caches
  uint64_t active = 0;     // allocated and pending
  uint64_t reserved = 0;   // in segments, those being created too
  uint64_t peak_reserved = 0;
  uint64_t peak_used = 0;  // highest of allocated, pending and cached together: at least active's highest
  // Counts since the pool began, but for the first two.
  uint64_t segments = 0;
  uint64_t spilled_segments = 0;  // of those, the ones that were allowed to spill when they were made
  uint64_t allocations = 0;
  uint64_t frees = 0;
  uint64_t segment_creates = 0;
  uint64_t segment_destroys = 0;
  uint64_t retries = 0;        // requests that had to give segments back first
  uint64_t handovers = 0;      // blocks that changed stream by an event
  uint64_t out_of_memory = 0;  // requests that failed
};

}  // namespace gpuroom
