#include "topology/visible_devices.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>

namespace gpuroom {
namespace {

constexpr std::string_view kUuidPrefix = "GPU-";

// The only one that begins so.
std::optional<size_t> ByUuid(std::string_view entry, const std::vector<std::string>& uuids) {
  const auto matches = [&](const std::string& uuid) { return uuid.starts_with(entry); };
  const auto found = std::find_if(uuids.begin(), uuids.end(), matches);
  const bool one = found != uuids.end() && std::none_of(found + 1, uuids.end(), matches);
  if (!entry.starts_with(kUuidPrefix) || !one) return std::nullopt;
  return static_cast<size_t>(found - uuids.begin());
}

// The driver does not look at what follows the digits.
std::optional<size_t> ByNumber(std::string_view entry, size_t count) {
  entry.remove_prefix(std::min(entry.find_first_not_of(" \t+"), entry.size()));
  size_t number = 0;
  const auto parsed = std::from_chars(entry.data(), entry.data() + entry.size(), number);
  if (parsed.ec != std::errc() || number >= count) return std::nullopt;
  return number;
}

}  // namespace

std::vector<size_t> VisibleDevices(const char* value, const std::vector<std::string>& uuids) {
  std::vector<size_t> visible;
  if (value == nullptr) {
    visible.resize(uuids.size());
    std::iota(visible.begin(), visible.end(), size_t{0});
    return visible;
  }
  std::string_view rest = value;
  const bool by_uuid = rest.starts_with(kUuidPrefix);
  while (!rest.empty()) {
    const std::string_view entry = rest.substr(0, rest.find(','));
    const std::optional<size_t> device = by_uuid ? ByUuid(entry, uuids) : ByNumber(entry, uuids.size());
    if (!device) break;
    if (std::find(visible.begin(), visible.end(), *device) != visible.end()) return {};
    visible.push_back(*device);
    rest.remove_prefix(std::min(entry.size() + 1, rest.size()));
  }
  return visible;
}

}  // namespace gpuroom
