// A TopSnapshot as text for people, and as JSON for the view and for scripts. Pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cli/top_snapshot.h"

namespace gpuroom {

// Raised when a field changes its meaning, not when one is new.
inline constexpr int kTopVersion = 1;

std::string TopText(const TopSnapshot& snapshot);
nlohmann::ordered_json TopJson(const TopSnapshot& snapshot);

}  // namespace gpuroom
