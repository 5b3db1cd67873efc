#include "share/share_terms.h"

#include <algorithm>

#include "base/env.h"
#include "base/log.h"
#include "base/size.h"
#include "sleep/control_line.h"

namespace gpuroom {
namespace {

constexpr uint64_t kPerMillisecond = 1000000;  // nanoseconds
// Without launches for so long, a program gives its memory to others at once.
constexpr uint64_t kIdleAfter = 100 * kPerMillisecond;
constexpr uint64_t kLongest = uint64_t{24} * 3600 * 1000;  // milliseconds

uint64_t ReadMilliseconds(const char* name, uint64_t fallback) {
  const char* text = env::Find(name);
  if (text == nullptr) return fallback;
  const Result<uint64_t> value = ParseDecimal(text);
  if (value.ok() && *value <= kLongest) return *value * kPerMillisecond;
  Log(LogLevel::kWarn, "%s is '%.64s', which is no number of milliseconds; it is ignored", name, text);
  return fallback;
}

uint64_t ReadReserve() {
  const char* text = env::Find(env::kShareReserve);
  if (text == nullptr) return 0;
  const Result<uint64_t> bytes = ParseSize(text);
  if (bytes.ok()) return *bytes;
  Log(LogLevel::kWarn, "%s is '%.64s', which is no size; it is ignored", env::kShareReserve, text);
  return 0;
}

SharePriority ReadPriority() {
  const char* text = env::Find(env::kSharePriority);
  if (text == nullptr) return SharePriority::kNormal;
  const std::optional<SharePriority> priority = ParseSharePriority(text);
  if (!priority) {
    Log(LogLevel::kWarn, "%s is '%.64s', not batch, normal or interactive; it is ignored",
        env::kSharePriority, text);
  }
  return priority.value_or(SharePriority::kNormal);
}

}  // namespace

std::optional<SharePriority> ParseSharePriority(std::string_view text) {
  if (text == "batch") return SharePriority::kBatch;
  if (text == "normal") return SharePriority::kNormal;
  if (text == "interactive") return SharePriority::kInteractive;
  return std::nullopt;
}

Result<uint64_t> ParseShareTime(std::string_view text) {
  const Status wrong(Code::kInvalidArgument, "not a time; write a number with ms, s or min, such as 250ms");
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const Result<uint64_t> number = ParseDecimal(text.substr(0, digits));
  const std::string_view unit = text.substr(digits);
  if (!number.ok() || *number > kLongest) return wrong;
  uint64_t milliseconds = 0;
  if (unit == "ms") milliseconds = *number;
  if (unit == "s") milliseconds = *number * 1000;
  if (unit == "min") milliseconds = *number * 60000;
  const bool known = unit == "ms" || unit == "s" || unit == "min" || (unit.empty() && *number == 0);
  return known && milliseconds <= kLongest ? Result<uint64_t>(milliseconds) : wrong;
}

ShareTerms ReadShareTerms() {
  return {ReadPriority(), ReadReserve(), ReadMilliseconds(env::kShareQuantum, 0),
          ReadMilliseconds(env::kIdleAfter, kIdleAfter)};
}

}  // namespace gpuroom
