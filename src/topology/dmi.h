// How much memory is soldered or plugged into the machine, as its firmware says
// (DMI type 17), whether or not the OS got it. Two sources: the output of
// `dmidecode -t memory` saved as dmidecode-t-memory.txt in the sysroot, and the
// table itself, which only root may read. Stateless; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "topology/sysroot.h"

namespace gpuroom {

struct InstalledMemory {
  uint64_t bytes = 0;  // 0: not known
  std::string source;  // where it was read
};

InstalledMemory ReadInstalledMemory(const Sysroot& root);

// Sum of the "Size: 480 GB" lines (dmidecode's GB is 2^30 bytes).
uint64_t ParseDmidecode(std::string_view text);
// Sum of the memory devices in a raw DMI table.
uint64_t ParseDmiTable(std::string_view table);

}  // namespace gpuroom
