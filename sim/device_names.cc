#include "device_names.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace gpuroom::sim {
namespace {

constexpr char kStem[] = "gpuroom-sim-gpu";  // and a byte that is the number
constexpr unsigned kFirstBus = 0x10;
constexpr std::string_view kUuidPrefix = "GPU-";

static_assert(sizeof kStem == 16);

// The one GPU whose UUID begins so; -1: none, or several, or the text has nothing of a UUID behind the
// prefix.
int FindByUuid(const std::string& text, int devices) {
  if (text == kUuidPrefix) return -1;
  int found = -1;
  for (int number = 0; number < devices; ++number) {
    if (!UuidText(number).starts_with(text)) continue;
    if (found >= 0) return -1;
    found = number;
  }
  return found;
}

// What follows a number is not looked at: the driver takes "1gpu" for 1.
int FindByNumber(const std::string& text, int devices) {
  char* end = nullptr;
  const long number = std::strtol(text.c_str(), &end, 10);
  return end != text.c_str() && number >= 0 && number < devices ? static_cast<int>(number) : -1;
}

}  // namespace

std::array<unsigned char, 16> UuidOf(int number) {
  std::array<unsigned char, 16> uuid{};
  std::memcpy(uuid.data(), kStem, sizeof kStem - 1);
  uuid[15] = static_cast<unsigned char>(number);
  return uuid;
}

std::string UuidText(int number) {
  std::string text(kUuidPrefix);
  size_t byte = 0;
  for (const unsigned char value : UuidOf(number)) {
    char hexadecimal[3];
    std::snprintf(hexadecimal, sizeof hexadecimal, "%02x", static_cast<unsigned>(value));
    text += hexadecimal;
    ++byte;
    if (byte == 4 || byte == 6 || byte == 8 || byte == 10) text += '-';
  }
  return text;
}

unsigned PciBusOf(int number) { return kFirstBus + static_cast<unsigned>(number); }

int NumberOnBus(unsigned domain, unsigned bus) {
  return domain == 0 && bus >= kFirstBus ? static_cast<int>(bus - kFirstBus) : -1;
}

std::optional<std::vector<int>> VisibleDevices(std::string_view value, int devices) {
  const bool by_uuid = value.starts_with(kUuidPrefix);
  std::vector<int> visible;
  while (!value.empty()) {
    const size_t comma = value.find(',');
    const std::string entry(value.substr(0, comma));
    const int number = by_uuid ? FindByUuid(entry, devices) : FindByNumber(entry, devices);
    if (number < 0 || (by_uuid && !entry.starts_with(kUuidPrefix))) break;
    if (std::find(visible.begin(), visible.end(), number) != visible.end()) return std::nullopt;
    visible.push_back(number);
    value = comma == std::string_view::npos ? "" : value.substr(comma + 1);
  }
  return visible;
}

}  // namespace gpuroom::sim
