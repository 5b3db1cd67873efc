// ProcessStats: what a process tells about itself to those who ask over its control socket (docs/metrics.md),
// in one place: bytes by tier and GPU, peaks, and what was done so far. Bytes by tag are a
// gpuroom_tag_state's.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/activity.h"

namespace gpuroom {

class Runtime;

struct GpuStats {
  uint64_t device = 0;     // ordinal in that process
  std::string uuid;        // "GPU-..."
  uint64_t hbm_limit = 0;  // bytes, as the next ones
  uint64_t hbm_used = 0;
  uint64_t hbm_peak = 0;
  uint64_t peer_limit = 0;
  uint64_t peer_used = 0;
  uint64_t host_limit = 0;  // of the node's processes together
  uint64_t host_used = 0;
  uint64_t host_peak = 0;
  uint64_t host_kept = 0;  // free, for reuse
  uint64_t managed_used = 0;
  uint64_t managed_peak = 0;
  uint64_t host_node = 0;  // the NUMA node that host memory comes from
  uint64_t home_node = 0;  // the one next to the GPU
  uint64_t allocations = 0;
  uint64_t spilled = 0;       // of these, with bytes outside HBM
  uint64_t displaced = 0;     // bytes that gave way
  uint64_t moved_to_hbm = 0;  // bytes, for whatever reason
  uint64_t moved_to_peer = 0;
  uint64_t moved_to_host = 0;
};

struct ProcessStats {
  std::vector<GpuStats> gpus;
  TimeCounts standstills;
  uint64_t standstills_in_vain = 0;
  TimeCounts moves;
  TimeCounts sleeps;
  TimeCounts wakes;
  uint64_t backed_up = 0;       // bytes
  uint64_t restored = 0;        // bytes
  uint64_t share = 0;           // ShareState
  uint64_t host_unclaimed = 0;  // bytes of the node's host budget that no process has claimed
  Refusals::Counts refusals{};
  // The last refusal; "": there was none.
  std::string refused_code;
  std::string refused_text;
  uint64_t refused_device = 0;
  uint64_t refused_bytes = 0;
};

// Makes no driver call, so that it can be had while memory sleeps or moves. Any thread.
ProcessStats ReadProcessStats(Runtime& rt);

}  // namespace gpuroom
