// Spans of time as people write them: "500ms", "10s", "2m", "1h".
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"

namespace gpuroom {

inline constexpr uint64_t kShortestPeriod = 10;                    // milliseconds, as the next one
inline constexpr uint64_t kLongestInterval = 24 * 60 * 60 * 1000;  // a day

// Milliseconds. Accepts a whole number and one of the units ms, s, m and h. Fails with kInvalidArgument on
// anything else, and on what is longer than kLongestInterval.
Result<uint64_t> ParseInterval(std::string_view text);
// The same, of a thing that is done again and again: kShortestPeriod at least.
Result<uint64_t> ParsePeriod(std::string_view text);

}  // namespace gpuroom
