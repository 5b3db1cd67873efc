// Limit: how much of a memory may be used, as people say it: a size, or a part of what the memory has in all.
// A plain value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace gpuroom {

struct Limit {
  uint64_t bytes = UINT64_MAX;  // UINT64_MAX: no limit
  unsigned percent = 0;         // 1 to 100, and `bytes` says nothing then; 0: `bytes` are meant

  bool limited() const { return percent != 0 || bytes != UINT64_MAX; }
  // Bytes of a memory that has `total`: never more than that.
  uint64_t Of(uint64_t total) const;

  bool operator==(const Limit&) const = default;
};

// A size as ParseSize takes it, or a whole number from 1 to 100 and a percent sign. kInvalidArgument
// otherwise; the text says what is wrong.
Result<Limit> ParseLimit(std::string_view text);
// The same form, sizes in bytes.
std::string FormatLimit(const Limit& limit);

}  // namespace gpuroom
