// `gpuroom doctor --bundle`: one file of JSON about this machine that its owner can send to people who have
// none like it: what doctor found, what was measured of its links, and versions. No names of hosts and users,
// no paths of theirs, no addresses and no serial numbers are in it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/doctor_report.h"
#include "cli/exit_codes.h"
#include "cli/link_cache.h"
#include "topology/sysroot.h"

namespace gpuroom {

// `text` with "(...)" in the place of whatever tells who or where somebody is: UUIDs, PCI, IP and hardware
// addresses, `names`, such as those of the host and the user, and paths below other folders than the system's
// own.
std::string WithoutIdentity(std::string_view text, const std::vector<std::string>& names);

// Writes `path` anew. `root` has the files of the report's machine, and `links` are the measured speeds of
// its GPUs.
Failure WriteBundle(const std::string& path, const DoctorReport& report, const Sysroot& root,
                    const std::vector<LinkEntry>& links);

}  // namespace gpuroom
