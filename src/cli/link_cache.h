// The speeds that `gpuroom bench tiers` measured, kept per GPU and driver in
// ${XDG_CACHE_HOME:-~/.cache}/gpuroom/links.json:
//   {"version":1,"machines":[{"gpu_name":"NVIDIA H200","gpu_uuid":"GPU-...","driver":"580.159.04",
//     "device_bytes_per_second":N,"peer_bytes_per_second":N,"host_bytes_per_second":N,
//     "measured":"2026-11-21T12:00:00Z"}]}
// A peer's 0 means that there was none. What a file says is checked, never
// believed: anything odd reads as a file that is not there. One thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/exit_codes.h"
#include "topology/link_speeds.h"

namespace gpuroom {

struct LinkEntry {
  std::string gpu_name;
  std::string gpu_uuid;  // "GPU-xxxxxxxx-...", as cuDeviceGetUuid gives it
  std::string driver;    // as DriverIdentity gives it
  LinkSpeeds speeds;
  std::string measured;  // UTC, "2026-11-21T12:00:00Z"
};

// Where the cache is; "" where neither XDG_CACHE_HOME nor HOME is an absolute path.
std::string LinkCachePath();

// What tells drivers apart: the kernel driver's version ("580.159.04"), or, on the
// simulated driver, "simulated " and its profile. "" where there is none.
std::string DriverIdentity(const std::string& sim_profile);

struct LinkCache {
  std::vector<LinkEntry> entries;
  std::string warning;  // one sentence, where there is a file that cannot be used
};

// Never fails: what cannot be used has no entries and a warning, what is not there neither.
LinkCache ReadLinkCache(const std::string& path);

std::optional<LinkEntry> FindLinks(const LinkCache& cache, std::string_view gpu_uuid,
                                   std::string_view driver);

// Puts `entry` in the place of those of the same GPU, whatever their driver, and keeps the others
// (not those of a file that cannot be used). The file is replaced as a whole, mode 0600; its folder
// is made. Of two writers at once one's entry may be lost, the file never. kExitUsage for an
// entry that no reader would take, kExitFailed for a file that cannot be written.
Failure WriteLinkCache(const std::string& path, const LinkEntry& entry);

}  // namespace gpuroom
