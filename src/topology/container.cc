#include "topology/container.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/size.h"

namespace gpuroom {
namespace {

constexpr int kSysNice = 23;  // CAP_SYS_NICE in linux/capability.h

std::vector<std::string_view> SplitFields(TemporaryString auto&& line) = delete;
std::vector<std::string_view> SplitFields(std::string_view line) {
  std::vector<std::string_view> fields;
  for (size_t at = 0; at < line.size();) {
    const size_t end = std::min(line.find(' ', at), line.size());
    fields.push_back(line.substr(at, end - at));
    at = end + 1;
  }
  return fields;
}

bool LiesBelow(std::string_view path, std::string_view point) {
  if (point == "/" || path == point) return true;
  return path.size() > point.size() && path.starts_with(point) && path[point.size()] == '/';
}

// "rw,size=65536k,inode64": 64 MiB. The kernel writes tmpfs's size in KiB.
uint64_t SizeIn(std::string_view options) {
  constexpr std::string_view kSize = "size=";
  for (size_t at = 0; at < options.size();) {
    const size_t end = std::min(options.find(',', at), options.size());
    std::string_view option = options.substr(at, end - at);
    at = end + 1;
    if (!option.starts_with(kSize) || !option.ends_with('k')) continue;
    option.remove_prefix(kSize.size());
    option.remove_suffix(1);
    const uint64_t kib = ParseNumber(option).value_or(0);
    return kib <= kMostPlausibleBytes / kKiB ? kib * kKiB : 0;
  }
  return 0;
}

// "36 35 98:0 / /dev/shm rw,noatime shared:1 - tmpfs shm rw,size=65536k": after a "-" come type, source and
// options.
std::optional<Mount> ParseMount(std::string_view line) {
  const std::vector<std::string_view> fields = SplitFields(line);
  size_t dash = 6;
  while (dash < fields.size() && fields[dash] != "-") ++dash;
  if (dash + 3 >= fields.size()) return std::nullopt;
  return Mount{std::string(fields[4]), std::string(fields[dash + 1]), std::string(fields[dash + 2]),
               SizeIn(fields[dash + 3])};
}

// The value of a line such as "CapBnd:\t00000000a80425fb" in /proc/self/status.
std::optional<uint64_t> StatusValue(std::string_view text, std::string_view name, int base) {
  for (const std::string_view line : SplitLines(text)) {
    if (line.starts_with(name) && line.substr(name.size()).starts_with(":"))
      return ParseNumber(Trim(line.substr(name.size() + 1)), base);
  }
  return std::nullopt;
}

// What is in the files that engines leave in a container, or "" where none has.
std::string FindEngine(const Sysroot& root, bool* present) {
  *present = true;
  if (root.IsDirectory("/run/secrets/kubernetes.io") || root.IsDirectory("/var/run/secrets/kubernetes.io"))
    return "Kubernetes";
  const std::string groups = root.Read("/proc/self/cgroup").value_or("");
  if (groups.find("kubepods") != std::string::npos) return "Kubernetes";
  if (root.Read("/.dockerenv").has_value() || groups.find("/docker") != std::string::npos) return "Docker";
  if (root.Read("/run/.containerenv").has_value() || groups.find("libpod") != std::string::npos)
    return "Podman";
  if (root.ReadLine("/run/systemd/container").value_or("") != "") return "";
  const std::optional<Mount> top = FindMount(root, "/");
  *present = top && top->type.find("overlay") != std::string::npos;
  return "";
}

}  // namespace

std::optional<Mount> FindMount(const Sysroot& root, std::string_view path) {
  const std::optional<std::string> text = root.Read("/proc/self/mountinfo");
  if (!text) return std::nullopt;
  std::optional<Mount> found;
  for (const std::string_view line : SplitLines(*text)) {
    std::optional<Mount> mount = ParseMount(line);
    if (!mount || !LiesBelow(path, mount->point)) continue;
    if (!found || mount->point.size() >= found->point.size()) found = std::move(mount);
  }
  return found;
}

Container ReadContainer(const Sysroot& root) {
  Container container;
  container.engine = FindEngine(root, &container.present);
  const std::string status = root.Read("/proc/self/status").value_or("");
  constexpr uint64_t kFilter = 2;  // SECCOMP_MODE_FILTER
  container.filtered = StatusValue(status, "Seccomp", 10) == kFilter;
  // The bounding set: engines choose the filter by what a container is given, also where its user is not
  // root.
  container.may_place = (StatusValue(status, "CapBnd", 16).value_or(0) >> kSysNice & 1) != 0;
  std::optional<Mount> shm = FindMount(root, "/dev/shm");
  if (shm && shm->point == "/dev/shm") container.shm = std::move(shm);
  return container;
}

}  // namespace gpuroom
