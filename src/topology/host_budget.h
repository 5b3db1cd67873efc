// How much host memory gpuroom may use on this machine: what is there for the
// taking (MemAvailable, the cgroup's limit, the NUMA node's free memory), less
// a reserve that the host keeps. Read from /proc and /sys alone: no CUDA call,
// no GPU needed, so `gpuroom run` can decide before the program starts.
//
// HBM that the driver onlined as a NUMA node is never counted as host memory.
// On a machine with EGM the host tier is EGM, which the OS does not see; its
// size is then an estimate. A snapshot: other processes may take memory at any
// time after. Stateless; any thread. Reserves nothing (the ledger does that).
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace gpuroom {

struct HostModel;  // topology/host_model.h

struct HostBudgetRequest {
  std::string sysroot = "/";  // every file is read below this directory
  int node = -1;  // NUMA node to take from; -1: the node of the GPUs, of several the one with least free
};

// Of EGM whose size nothing tells: an explicit limit is then the user's own word.
inline constexpr uint64_t kNoCeiling = UINT64_MAX;

struct HostBudget {
  uint64_t bytes = 0;      // what gpuroom may use; a multiple of 2 MiB; 0 when nothing can be spared
  uint64_t available = 0;  // what is there before the reserve
  uint64_t ceiling =
      0;  // what there could be at most: all real RAM, as far as the cgroup allows; or kNoCeiling
  uint64_t reserve = 0;    // kept for the host: 2 GiB, or 10% of what bounds the tier (the node, the cgroup's
                           // limit, all real RAM) where that is more; at most half of `available`
  uint64_t real_ram = 0;   // RAM that the OS has, HBM nodes left out
  int node = -1;           // the NUMA node that was looked at; -1: the machine as a whole
  bool egm = false;        // `available` is EGM, not the OS's memory
  bool estimated = false;  // `available` could not be read, only inferred
  std::string limited_by;  // what leaves least after its reserve, in words: "free memory of NUMA node 0"
  std::string ceiling_is;  // what sets the ceiling, in words; empty: limited_by
};

// Never fails: where nothing can be read, bytes is 0 and limited_by says so.
HostBudget AutoHostBudget(const HostBudgetRequest& request = {});

// The same on a model that was read before (see host_model.h).
HostBudget AutoHostBudget(const HostModel& model, const HostBudgetRequest& request);

// "" when the machine could hold an explicit limit of `requested` bytes
// (`budget.ceiling`), else one sentence for the user that names the fix.
std::string CheckHostLimit(uint64_t requested, const HostBudget& budget);

// "" when that much is there now (`budget.available`; a limit may eat into the
// reserve), else a warning: page cache may give way, virtual machines grow.
std::string WarnOfHostLimit(uint64_t requested, const HostBudget& budget);

}  // namespace gpuroom
