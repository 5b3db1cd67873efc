// Options: what `gpuroom run` decided, read once per process from the
// environment (base/env.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/limit.h"
#include "range/managed_cap.h"
#include "range/rules.h"
#include "tier/budget.h"
#include "topology/host_part.h"
#include "topology/link_speeds.h"
#include "topology/peer_choice.h"

namespace gpuroom {

struct Options {
  Limit hbm_limit;                  // of each device
  uint64_t host_limit = 0;          // bytes, the node's processes together; 0: the shim is idle
  HostPart host_part;               // of it, what each GPU may use
  std::optional<uint64_t> reserve;  // as set; see ReserveOf
  uint64_t range_threshold = 0;     // bytes from which a request becomes a range
  uint64_t host_keep = 0;           // bytes of released host chunks kept for reuse
  uint64_t host_ahead = 0;          // bytes of host chunks created in advance
  Policy policy = Policy::kGpuFirst;
  std::optional<uint64_t> resident_below;  // as set; see ResidentBelow
  // Bytes that large data will take on a device in all; what is spread leaves room for the rest of it. 0:
  // not known.
  uint64_t expect = 0;
  PeerChoice peers;  // none, unless asked for: other GPUs may be somebody's
  Rules rules;
  Backend backend = Backend::kTiers;  // of what no rule says otherwise
  ManagedOptions managed;
  LinkSpeeds link_speeds;     // as measured; all 0: not measured, estimate them
  std::string share_group;    // of the programs that this one shares its GPUs with; "": none
  std::string share_arbiter;  // the program that is their arbiter
  bool kept_is_free = false;  // host memory that holds the contents of what sleeps is told as free
  bool report = false;
  std::string trace;            // "": none
  std::string stats_file;       // "": none
  uint64_t stats_interval = 0;  // milliseconds between lines in stats_file; 0: one line at the end alone

  // Of a device that has `total` bytes of HBM: the bytes that are kept for small allocations.
  uint64_t ReserveOf(uint64_t total) const;
  // Requests of fewer bytes are PlanRequest::resident; never below range_threshold.
  uint64_t ResidentBelow(uint64_t total) const;

 private:
  // What the defaults of these two go by: the limit that was asked for, even if it is all that the device
  // has.
  uint64_t AskedOf(uint64_t total) const;
};

// Values that do not parse are ignored with a line in the log.
Options ReadOptions();

}  // namespace gpuroom
