#include "base/limit.h"

#include <algorithm>
#include <charconv>

#include "base/size.h"

namespace gpuroom {

uint64_t Limit::Of(uint64_t total) const {
  if (percent == 0) return std::min(bytes, total);
  return total / 100 * percent + total % 100 * percent / 100;
}

Result<Limit> ParseLimit(std::string_view text) {
  Limit limit;
  if (!text.ends_with('%')) {
    const Result<uint64_t> bytes = ParseSize(text);
    if (!bytes.ok()) return bytes.status();
    limit.bytes = *bytes;
    return limit;
  }
  const char* const end = text.data() + text.size() - 1;
  const auto [stop, error] = std::from_chars(text.data(), end, limit.percent);
  if (error == std::errc() && stop == end && limit.percent >= 1 && limit.percent <= 100) return limit;
  return Status(Code::kInvalidArgument, "not a part; write a whole number from 1% to 100%");
}

std::string FormatLimit(const Limit& limit) {
  return limit.percent != 0 ? std::to_string(limit.percent) + "%" : std::to_string(limit.bytes);
}

}  // namespace gpuroom
