#include "cli/doctor_bundle.h"

#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <pwd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/temporary.h"

namespace gpuroom {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kBundleSchema = 1;  // of the bundle
constexpr std::string_view kHidden = "(...)";
constexpr size_t kShortestName =
    3;  // a shorter name of a host or a user would be found in words that are none

bool IsHex(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// What belongs together in a name, an address or a path.
bool IsInWord(char c) {
  constexpr std::string_view kMarks = "-_.:/@+~%";
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || kMarks.find(c) != std::string_view::npos;
}

// The parts of `word` between `separator`s.
std::vector<std::string_view> Parts(TemporaryString auto&& word, char separator) = delete;
std::vector<std::string_view> Parts(std::string_view word, char separator) {
  std::vector<std::string_view> parts;
  for (size_t at = 0; at <= word.size();) {
    const size_t end = std::min(word.find(separator, at), word.size());
    parts.push_back(word.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

template <typename Holds>
bool All(std::string_view text, Holds holds) {
  return !text.empty() && std::all_of(text.begin(), text.end(), holds);
}

// "GPU-6a2f91c0-...": five groups of hexadecimal digits, whatever stands before them.
bool HasUuid(std::string_view word) {
  const std::vector<std::string_view> parts = Parts(word, '-');
  if (parts.size() < 5) return false;
  return std::all_of(parts.end() - 5, parts.end(), [](std::string_view part) { return All(part, IsHex); });
}

// PCI ("0000:17:00.0"), hardware ("52:54:00:12:34:56") and IPv6 addresses: digits between two colons or more.
bool HasColonAddress(std::string_view word) {
  const std::vector<std::string_view> parts = Parts(word, ':');
  if (parts.size() < 3) return false;
  return std::all_of(parts.begin(), parts.end(), [](std::string_view part) {
    return part.empty() || All(part, [](char c) { return IsHex(c) || c == '.'; });
  });
}

bool IsIpv4(std::string_view word) {
  const std::vector<std::string_view> parts = Parts(word.substr(0, word.find(':')), '.');
  return parts.size() == 4 && std::all_of(parts.begin(), parts.end(), [](std::string_view part) {
           return part.size() <= 3 && All(part, IsDigit);
         });
}

// A path that may have somebody's name in it. The system's own have none, but for the control groups'.
bool IsPrivatePath(std::string_view word) {
  if (!word.starts_with('/') || word.size() < 2) return false;
  if (word.starts_with("/sys/fs/cgroup/")) return true;
  for (const std::string_view folder : {"/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/lib", "/var/log/"}) {
    if (word.starts_with(folder)) return false;
  }
  return word.find('/', 1) != std::string_view::npos;
}

// Of this host and this user.
std::vector<std::string> Names() {
  std::vector<std::string> names;
  utsname system = {};
  if (uname(&system) == 0) names.emplace_back(system.nodename);
  if (const passwd* user = getpwuid(getuid())) names.emplace_back(user->pw_name);
  for (const char* variable : {"USER", "LOGNAME", "HOSTNAME", "SUDO_USER"}) {
    if (const char* value = std::getenv(variable)) names.emplace_back(value);
  }
  std::erase_if(names, [](const std::string& name) { return name.size() < kShortestName || name == "root"; });
  return names;
}

// Whether `name` is in `word` with no letter or digit beside it.
bool HasName(std::string_view word, std::string_view name) {
  const auto continues = [word](size_t at) {
    return at < word.size() && std::isalnum(static_cast<unsigned char>(word[at])) != 0;
  };
  for (size_t at = word.find(name); at != std::string_view::npos; at = word.find(name, at + 1)) {
    if ((at == 0 || !continues(at - 1)) && !continues(at + name.size())) return true;
  }
  return false;
}

bool TellsIdentity(std::string_view word, const std::vector<std::string>& names) {
  while (word.ends_with('.') || word.ends_with(':')) word.remove_suffix(1);  // of the sentence
  if (word.find('@') != std::string_view::npos || HasUuid(word) || HasColonAddress(word) || IsIpv4(word) ||
      IsPrivatePath(word))
    return true;
  return std::any_of(names.begin(), names.end(),
                     [word](const std::string& name) { return HasName(word, name); });
}

// Every text in `json`, at any depth.
void HideIdentity(const std::vector<std::string>& names, Json* json) {
  if (json->is_string()) {
    *json = WithoutIdentity(json->get<std::string>(), names);
  } else if (json->is_structured()) {
    for (Json& part : *json) HideIdentity(names, &part);
  }
}

// "Intel(R) Xeon(R) Platinum 8592+", as /proc/cpuinfo has it; Arm's has no name.
std::string Processor(const Sysroot& root) {
  const std::string text = root.Read("/proc/cpuinfo").value_or("");
  for (const std::string_view line : SplitLines(text)) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string_view::npos) {
      return std::string(Trim(line.substr(colon + 2)));
    }
  }
  return "";
}

// The system's are those of this machine, and said of no other.
Json Versions(const Sysroot& root) {
  Json versions = {{"gpuroom", GPUROOM_VERSION}};
  utsname system = {};
  if (!root.IsMachine() || uname(&system) != 0) return versions;
  versions["libc"] = gnu_get_libc_version();
  versions["system"] = system.sysname;
  versions["kernel"] = system.release;
  versions["architecture"] = system.machine;
  return versions;
}

Json Links(const std::vector<LinkEntry>& links) {
  Json tiers = Json::array();
  for (const LinkEntry& entry : links) {
    tiers.push_back({{"gpu_name", entry.gpu_name},
                     {"driver", entry.driver},
                     {"device_bytes_per_second", entry.speeds.device},
                     {"peer_bytes_per_second", entry.speeds.peer},
                     {"host_bytes_per_second", entry.speeds.host},
                     {"measured", entry.measured}});
  }
  return tiers;
}

}  // namespace

std::string WithoutIdentity(std::string_view text, const std::vector<std::string>& names) {
  std::string clean;
  while (!text.empty()) {
    const auto end = std::find_if_not(text.begin(), text.end(), IsInWord);
    const std::string_view word = text.substr(0, static_cast<size_t>(end - text.begin()));
    if (word.empty()) {
      clean += text[0];
      text.remove_prefix(1);
      continue;
    }
    clean += TellsIdentity(word, names) ? kHidden : word;
    text.remove_prefix(word.size());
  }
  return clean;
}

Failure WriteBundle(const std::string& path, const DoctorReport& report, const Sysroot& root,
                    const std::vector<LinkEntry>& links) {
  Json bundle = {{"bundle", kBundleSchema},
                 {"versions", Versions(root)},
                 {"machine", {{"processor", Processor(root)}}},
                 {"doctor", Json::parse(report.Json())},
                 {"bench_tiers", Links(links)}};
  HideIdentity(Names(), &bundle);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << bundle.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  file.close();
  if (file) {
    fmt::print(stderr, "gpuroom: wrote '{}'; look through it before you send it\n", Printable(path));
    return {};
  }
  return {kExitUsage, fmt::format("--bundle '{}' cannot be written: {}; name a file in a writable folder",
                                  path, std::strerror(errno))};
}

}  // namespace gpuroom
