// LinkSpeeds: how fast a GPU's kernels read each kind of memory, what plans weigh
// tiers by; and its one-line form, which passes from the command to the shim.
// Plain values, no driver. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace gpuroom {

// Bytes per second.
struct LinkSpeeds {
  uint64_t device = 0;
  uint64_t peer = 0;  // 0: no other GPU is in reach
  uint64_t host = 0;
};

// What a link can be: less or more is a mistake in a file or a variable, and the
// products that plans form of speeds and sizes stay far from overflow.
inline constexpr uint64_t kSlowestLink = 1'000'000;              // 1 MB/s
inline constexpr uint64_t kFastestLink = 1'000'000'000'000'000;  // 1,000 TB/s

// All but `peer` must be given, and each within the bounds above.
bool ArePlausible(const LinkSpeeds& speeds);

// "device=4560000000000,peer=375000000000,host=51000000000"; peer may be left out.
// kInvalidArgument otherwise; the text says what is wrong.
Result<LinkSpeeds> ParseLinkSpeeds(std::string_view text);
std::string FormatLinkSpeeds(const LinkSpeeds& speeds);

}  // namespace gpuroom
