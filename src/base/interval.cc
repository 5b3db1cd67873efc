#include "base/interval.h"

#include <charconv>
#include <system_error>

namespace gpuroom {
namespace {

struct TimeUnit {
  std::string_view name;
  uint64_t milliseconds;
};

constexpr TimeUnit kTimeUnits[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}};

}  // namespace

Result<uint64_t> ParseInterval(std::string_view text) {
  const Status malformed(Code::kInvalidArgument,
                         "not a span of time; write a whole number and a unit, such as 10s, 500ms or 2m");
  const Status too_long(Code::kInvalidArgument, "too long; 24h is the most");
  uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error == std::errc::invalid_argument) return malformed;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  for (const TimeUnit& unit : kTimeUnits) {
    if (text != unit.name) continue;
    if (error != std::errc() || count > kLongestInterval / unit.milliseconds) return too_long;
    return count * unit.milliseconds;
  }
  return malformed;
}

Result<uint64_t> ParsePeriod(std::string_view text) {
  Result<uint64_t> period = ParseInterval(text);
  if (!period.ok() || *period >= kShortestPeriod) return period;
  return Status(Code::kInvalidArgument, "too short; 10ms is the least");
}

}  // namespace gpuroom
