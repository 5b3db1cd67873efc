#include "topology/cgroup.h"

#include <algorithm>
#include <climits>
#include <optional>
#include <vector>

namespace gpuroom {
namespace {

// Version 1 writes "no limit" as the largest multiple of the page size.
constexpr uint64_t kNoLimit = uint64_t{1} << 62;

struct Layout {
  int version;
  const char* mount;
  std::vector<const char*> limits;
  const char* usage;
  std::vector<std::string_view> reclaimable;  // file pages, names in memory.stat
};

const Layout& LayoutV1() {
  static const Layout layout{1,
                             "/sys/fs/cgroup/memory",
                             {"memory.limit_in_bytes"},
                             "memory.usage_in_bytes",
                             {"total_active_file", "total_inactive_file"}};
  return layout;
}

const Layout& LayoutV2(bool hybrid) {
  static const std::vector<const char*> limits{"memory.max", "memory.high"};
  static const std::vector<std::string_view> reclaimable{"active_file", "inactive_file"};
  static const Layout plain{2, "/sys/fs/cgroup", limits, "memory.current", reclaimable};
  static const Layout beside{2, "/sys/fs/cgroup/unified", limits, "memory.current", reclaimable};
  return hybrid ? beside : plain;
}

// Page cache, which the kernel drops before a group has too little; as a node's budget counts it.
uint64_t ReadReclaimable(const Sysroot& root, const std::string& directory, const Layout& layout) {
  const std::optional<std::string> text = root.Read(directory + "/memory.stat");
  if (!text) return 0;
  uint64_t bytes = 0;
  for (const std::string_view line : SplitLines(*text)) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) continue;
    const auto& names = layout.reclaimable;
    if (std::find(names.begin(), names.end(), line.substr(0, space)) == names.end()) continue;
    const uint64_t value = ParseNumber(Trim(line.substr(space + 1))).value_or(0);
    bytes += std::min(value, kNoLimit - bytes);  // garbage overflows nothing
  }
  return bytes;
}

std::optional<uint64_t> ReadBytes(const Sysroot& root, const std::string& path) {
  const std::optional<std::string> text = root.ReadLine(path);
  return text ? ParseNumber(*text) : std::nullopt;  // "max" is no number, and no limit
}

void ConsiderLevel(const Sysroot& root, const Layout& layout, const std::string& directory,
                   CgroupMemory* tightest) {
  for (const char* name : layout.limits) {
    const std::optional<uint64_t> limit = ReadBytes(root, directory + "/" + name);
    if (!limit || *limit >= kNoLimit) continue;
    uint64_t used = ReadBytes(root, directory + "/" + layout.usage).value_or(0);
    const uint64_t reclaimable = ReadReclaimable(root, directory, layout);
    used -= reclaimable < used ? reclaimable : used;
    const uint64_t remaining = *limit > used ? *limit - used : 0;
    if (tightest->limited && tightest->remaining <= remaining) continue;
    *tightest = {true, layout.version, directory + "/" + name, *limit, used, remaining};
  }
}

// From the group up to the mount's root. A container without a namespace of its
// own reads the host's path here, of which it sees only the root: levels that
// are not there are passed over.
void WalkUp(const Sysroot& root, const Layout& layout, std::string_view path, CgroupMemory* tightest) {
  std::string group(path);
  if (group.size() > PATH_MAX || group.find("..") != std::string::npos) group = "/";
  while (!group.empty() && group != "/") {
    ConsiderLevel(root, layout, layout.mount + group, tightest);
    group.resize(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
  }
  ConsiderLevel(root, layout, layout.mount, tightest);
}

bool NamesMemory(std::string_view controllers) {
  while (!controllers.empty()) {
    const size_t comma = controllers.find(',');
    if (controllers.substr(0, comma) == "memory") return true;
    if (comma == std::string_view::npos) break;
    controllers.remove_prefix(comma + 1);
  }
  return false;
}

}  // namespace

CgroupMemory ReadCgroupMemory(const Sysroot& root) {
  CgroupMemory tightest;
  const std::optional<std::string> text = root.Read("/proc/self/cgroup");
  if (!text) return tightest;
  const bool hybrid = root.IsDirectory("/sys/fs/cgroup/unified");
  for (const std::string_view line : SplitLines(*text)) {
    // "4:memory:/docker/x" (version 1) or "0::/user.slice" (version 2)
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string_view path = Trim(line.substr(second + 1));
    if (!path.starts_with('/')) continue;
    if (controllers.empty()) WalkUp(root, LayoutV2(hybrid), path, &tightest);
    if (NamesMemory(controllers)) WalkUp(root, LayoutV1(), path, &tightest);
  }
  return tightest;
}

}  // namespace gpuroom
