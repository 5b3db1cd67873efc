// The words for policies, hints and backends, the same in options, variables, rules and reports.
#pragma once

#include <optional>
#include <string_view>

#include "range/plan.h"

namespace gpuroom {

// "gpu_first", "balanced", "cpu_first"; never null.
const char* PolicyName(Policy policy);
std::optional<Policy> ParsePolicy(std::string_view name);

// "none", "hot", "cold", "stream"; never null.
const char* HintName(Hint hint);
std::optional<Hint> ParseHint(std::string_view name);
// "tiers", "managed"; never null.
const char* BackendName(Backend backend);
std::optional<Backend> ParseBackend(std::string_view name);

}  // namespace gpuroom
