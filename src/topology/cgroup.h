// The memory limit that control groups put on this process: versions 1 and 2,
// and both at once. Every level from the process's own group up to the root
// counts, since each may be the tightest. Stateless; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "topology/sysroot.h"

namespace gpuroom {

struct CgroupMemory {
  bool limited = false;    // some level has a limit
  int version = 0;         // 1 or 2: of the level below
  std::string file;        // the limit that leaves least: "/sys/fs/cgroup/a/memory.max"
  uint64_t limit = 0;      // bytes
  uint64_t used = 0;       // bytes in use there, reclaimable page cache left out
  uint64_t remaining = 0;  // limit - used, not below 0
};

CgroupMemory ReadCgroupMemory(const Sysroot& root);

}  // namespace gpuroom
