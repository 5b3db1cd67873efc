#include "base/size.h"

#include <strings.h>

#include <charconv>
#include <cstdio>

#include "base/temporary.h"

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

// The digits of a fraction that count. Further ones are worth less than a millionth of a byte, even of a TiB.
constexpr size_t kFractionDigits = 18;
constexpr uint64_t kFractionOne = 1'000'000'000'000'000'000;  // 10^kFractionDigits

// The whole bytes in 0.`digits` of a unit. `unit` is a power of two. In integers, so that every
// platform gives the same bytes.
uint64_t FractionBytes(std::string_view digits, uint64_t unit) {
  uint64_t numerator = 0;
  for (size_t i = 0; i < kFractionDigits; ++i) {
    numerator = numerator * 10 + (i < digits.size() ? static_cast<uint64_t>(digits[i] - '0') : 0);
  }
  uint64_t bytes = 0;
  for (; unit > 1; unit /= 2) {  // one binary digit at a time
    numerator *= 2;
    const bool carry = numerator >= kFractionOne;
    if (carry) numerator -= kFractionOne;
    bytes = bytes * 2 + (carry ? 1 : 0);
  }
  return bytes;
}

std::string_view LeadingDigits(TemporaryString auto&& text) = delete;
std::string_view LeadingDigits(std::string_view text) {
  return text.substr(0, text.find_first_not_of("0123456789"));
}

}  // namespace

Result<uint64_t> ParseSize(std::string_view text) {
  const Status malformed(Code::kInvalidArgument,
                         "not a size; write a number and a unit, such as 6GiB or 512MiB");
  const Status too_large(Code::kInvalidArgument, "too large; a size is at most 8388607 TiB");
  constexpr uint64_t kLargest = INT64_MAX;

  const std::string_view integer = LeadingDigits(text);
  if (integer.empty()) return malformed;
  text.remove_prefix(integer.size());
  std::string_view fraction;
  if (!text.empty() && text[0] == '.') {
    fraction = LeadingDigits(text.substr(1));
    text.remove_prefix(1 + fraction.size());
  }
  while (!text.empty() && text[0] == ' ') text.remove_prefix(1);
  const Unit* unit = FindUnit(text);
  if (unit == nullptr) return malformed;

  uint64_t count = 0;
  const auto [end, error] = std::from_chars(integer.data(), integer.data() + integer.size(), count);
  if (error != std::errc() || count > kLargest / unit->bytes) return too_large;
  const uint64_t bytes = count * unit->bytes + FractionBytes(fraction, unit->bytes);
  if (bytes > kLargest) return too_large;
  return bytes;
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
