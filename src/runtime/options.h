// Options: what `gpuroom run` decided, read once per process from the
// environment (base/env.h).
#pragma once

#include <cstdint>
#include <string>

#include "range/managed_cap.h"
#include "range/rules.h"
#include "tier/budget.h"
#include "topology/link_speeds.h"
#include "topology/peer_choice.h"

namespace gpuroom {

struct Options {
  uint64_t hbm_limit = Budget::kUnlimited;  // bytes per device
  uint64_t host_limit = 0;                  // bytes, the node's processes together; 0: the shim is idle
  uint64_t reserve = 0;                     // HBM bytes per device kept for small allocations
  uint64_t range_threshold = 0;             // bytes from which a request becomes a range
  uint64_t host_keep = 0;                   // bytes of released host chunks kept for reuse
  uint64_t host_ahead = 0;                  // bytes of host chunks created in advance
  Policy policy = Policy::kGpuFirst;
  // Requests of fewer bytes are PlanRequest::resident; never below range_threshold.
  uint64_t resident_below = 0;
  // Bytes that large data will take on a device in all; what is spread leaves room for the rest of it. 0:
  // not known.
  uint64_t expect = 0;
  PeerChoice peers;  // none, unless asked for: other GPUs may be somebody's
  Rules rules;
  Backend backend = Backend::kTiers;  // of what no rule says otherwise
  ManagedOptions managed;
  LinkSpeeds link_speeds;     // as measured; all 0: not measured, estimate them
  bool kept_is_free = false;  // host memory that holds the contents of what sleeps is told as free
  bool report = false;
  std::string stats_file;  // "": none
};

// Values that do not parse are ignored with a line in the log.
Options ReadOptions();

}  // namespace gpuroom
