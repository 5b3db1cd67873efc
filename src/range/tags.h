// Tags: the names of groups of memory, as numbers. A process has few, so a name once
// given a number keeps it for good. Any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace gpuroom {

using TagId = uint16_t;
inline constexpr TagId kUntagged = 0;

// The number of a name (IsTag in rules.h, or empty: kUntagged). After 65,535 names every new one is
// kUntagged.
TagId TagOf(std::string_view name);
// The same for a name that may not be in use: false, and nothing is remembered.
bool FindTag(std::string_view name, TagId* tag);
// "" for kUntagged. Valid for good.
const char* TagName(TagId tag);

}  // namespace gpuroom
