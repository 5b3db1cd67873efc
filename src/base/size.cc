#include "base/size.h"

#include <strings.h>

#include <charconv>
#include <cstdio>

namespace gpuroom {
namespace {

struct Unit {
  const char* name;
  uint64_t bytes;
};

constexpr Unit kUnits[] = {
    {"", 1},       {"b", 1},          {"k", kKiB},        {"kb", kKiB},        {"kib", kKiB},
    {"m", kMiB},   {"mb", kMiB},      {"mib", kMiB},      {"g", kGiB},         {"gb", kGiB},
    {"gib", kGiB}, {"t", kGiB << 10}, {"tb", kGiB << 10}, {"tib", kGiB << 10},
};

const Unit* FindUnit(std::string_view text) {
  for (const Unit& unit : kUnits) {
    if (std::string_view(unit.name).size() == text.size() &&
        strncasecmp(unit.name, text.data(), text.size()) == 0) {
      return &unit;
    }
  }
  return nullptr;
}

}  // namespace

Result<uint64_t> ParseSize(std::string_view text) {
  const Status malformed(Code::kInvalidArgument,
                         "not a size; write a number and a unit, such as 6GiB or 512MiB");
  if (text.empty() || text[0] < '0' || text[0] > '9') return malformed;
  // long double holds every 64-bit integer exactly on x86-64 and aarch64.
  const size_t digits = text.find_first_not_of("0123456789.");
  const std::string_view number = text.substr(0, digits);
  std::string_view suffix = digits == std::string_view::npos ? "" : text.substr(digits);
  while (!suffix.empty() && suffix[0] == ' ') suffix.remove_prefix(1);
  const Unit* unit = FindUnit(suffix);
  if (unit == nullptr) return malformed;
  long double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || end != number.data() + number.size()) return malformed;
  value *= static_cast<long double>(unit->bytes);
  if (value > 9223372036854775807.0L) {
    return Status(Code::kInvalidArgument, "too large; a size is at most 8388607 TiB");
  }
  return static_cast<uint64_t>(value);
}

std::string FormatSize(uint64_t bytes) {
  static constexpr const char* kNames[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kNames)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  const bool whole = unit == 0 || value >= 100;
  std::snprintf(text, sizeof text, whole ? "%.0f %s" : "%.1f %s", value, kNames[unit]);
  return text;
}

}  // namespace gpuroom
