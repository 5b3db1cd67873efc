#include "cli/link_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "cli/small_file.h"
#include "topology/nvidia_files.h"

namespace gpuroom {
namespace {

using PlainJson = nlohmann::json;

constexpr int kVersion = 1;
constexpr size_t kMaxEntries = 256;
constexpr size_t kMaxText = 256;  // of a name

bool IsName(const std::string& text, size_t least) {
  return text.size() >= least && text.size() <= kMaxText && Printable(text) == text;
}

bool IsEntry(const LinkEntry& entry) {
  return IsName(entry.gpu_name, 0) && IsName(entry.gpu_uuid, 1) && IsName(entry.driver, 1) &&
         IsName(entry.measured, 0) && ArePlausible(entry.speeds);
}

bool ReadText(const PlainJson& json, const char* key, std::string* text) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string()) return false;
  *text = found->get<std::string>();
  return true;
}

bool ReadSpeed(const PlainJson& json, const char* key, uint64_t* speed) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number_unsigned()) return false;
  *speed = found->get<uint64_t>();
  return true;
}

std::optional<LinkEntry> ToEntry(const PlainJson& json) {
  LinkEntry entry;
  const bool read = json.is_object() && ReadText(json, "gpu_name", &entry.gpu_name) &&
                    ReadText(json, "gpu_uuid", &entry.gpu_uuid) && ReadText(json, "driver", &entry.driver) &&
                    ReadText(json, "measured", &entry.measured) &&
                    ReadSpeed(json, "device_bytes_per_second", &entry.speeds.device) &&
                    ReadSpeed(json, "peer_bytes_per_second", &entry.speeds.peer) &&
                    ReadSpeed(json, "host_bytes_per_second", &entry.speeds.host);
  if (!read || !IsEntry(entry)) return std::nullopt;
  return entry;
}

nlohmann::ordered_json ToJson(const LinkEntry& entry) {
  return {{"gpu_name", entry.gpu_name},
          {"gpu_uuid", entry.gpu_uuid},
          {"driver", entry.driver},
          {"device_bytes_per_second", entry.speeds.device},
          {"peer_bytes_per_second", entry.speeds.peer},
          {"host_bytes_per_second", entry.speeds.host},
          {"measured", entry.measured}};
}

// False where `text` is no cache of this version; entries that make no sense are left out.
bool ParseCache(const std::string& text, std::vector<LinkEntry>* entries) {
  const PlainJson json = PlainJson::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("version") || json["version"] != kVersion) return false;
  if (!json.contains("machines") || !json["machines"].is_array()) return false;
  for (const PlainJson& machine : json["machines"]) {
    std::optional<LinkEntry> entry = ToEntry(machine);
    if (entry && entries->size() < kMaxEntries) entries->push_back(std::move(*entry));
  }
  return true;
}

// Whether `path`, which could not be opened for the reason `error`, is a file all the same. In a folder that
// this user may not enter, such as another's home, nothing is to be seen, and so nothing is damaged.
bool MayBeThere(const std::string& path, int error) {
  struct stat info = {};
  return error != ENOENT && error != ENOTDIR && stat(path.c_str(), &info) == 0;
}

std::string AbsoluteVariable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value == '/' ? value : "";
}

}  // namespace

std::string LinkCachePath() {
  constexpr char kFile[] = "/gpuroom/links.json";
  const std::string cache = AbsoluteVariable("XDG_CACHE_HOME");
  if (!cache.empty()) return cache + kFile;
  const std::string home = AbsoluteVariable("HOME");
  return home.empty() ? "" : home + "/.cache" + kFile;
}

std::string DriverIdentity(const std::string& sim_profile) {
  if (!sim_profile.empty()) return "simulated " + sim_profile;
  return ReadNvidiaFiles(Sysroot("/")).version;
}

LinkCache ReadLinkCache(const std::string& path) {
  LinkCache cache;
  if (path.empty()) return cache;
  std::string text;
  const Status status = ReadSmallFile(path, &text);
  if (!status.ok()) {
    if (!MayBeThere(path, status.native())) return cache;
    cache.warning = fmt::format("the measured link speeds in '{}' cannot be read: {}; remove the file", path,
                                DescribeReadFailure(status));
  } else if (!ParseCache(text, &cache.entries)) {
    cache.warning = fmt::format(
        "'{}' does not hold link speeds of this version; run 'gpuroom bench tiers' to replace it", path);
  }
  return cache;
}

std::optional<LinkEntry> FindLinks(const LinkCache& cache, std::string_view gpu_uuid,
                                   std::string_view driver) {
  const auto found = std::find_if(cache.entries.begin(), cache.entries.end(), [&](const LinkEntry& entry) {
    return entry.gpu_uuid == gpu_uuid && entry.driver == driver;
  });
  if (found == cache.entries.end()) return std::nullopt;
  return *found;
}

Failure WriteLinkCache(const std::string& path, const LinkEntry& entry) {
  if (path.empty()) {
    return {kExitFailed, "there is no place for the link speeds; set HOME or XDG_CACHE_HOME to a full path"};
  }
  if (!IsEntry(entry)) {
    return {kExitUsage, fmt::format("the link speeds {} of GPU '{}' under driver '{}' are not plausible; "
                                    "measure again on an idle machine",
                                    FormatLinkSpeeds(entry.speeds), entry.gpu_uuid, entry.driver)};
  }
  std::vector<LinkEntry> entries = ReadLinkCache(path).entries;
  std::erase_if(entries, [&](const LinkEntry& other) { return other.gpu_uuid == entry.gpu_uuid; });
  if (entries.size() >= kMaxEntries) entries.erase(entries.begin());  // the oldest
  entries.push_back(entry);
  nlohmann::ordered_json out = {{"version", kVersion}, {"machines", nlohmann::ordered_json::array()}};
  for (const LinkEntry& each : entries) out["machines"].push_back(ToJson(each));
  std::error_code ignored;  // writing fails then, too, and says why
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  const std::string text = out.dump(2, ' ', false, PlainJson::error_handler_t::replace) + "\n";
  if (ReplaceFile(path, text, 0600)) return {};
  return {kExitFailed, fmt::format("the link speeds cannot be written to '{}': {}; make its folder writable",
                                   path, std::strerror(errno))};
}

}  // namespace gpuroom
