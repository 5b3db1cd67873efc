// The file of `gpuroom run --rules`: policy, hint and backend by size or tag, in JSON.
//   {"rules": [{"min": "1GiB", "max": "8GiB", "tag": "kv_cache", "policy": "cpu_first", "hint": "cold"}]}
// Checked strictly: a key or a value that means nothing here is refused by name,
// since a rule that is silently ignored looks like one that does not help.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "cli/exit_codes.h"
#include "range/rules.h"

namespace gpuroom {

// Objects and arrays within each other. Rules need three; a file has 1 MiB and Rules::kMost rules at most.
inline constexpr size_t kMostRulesDepth = 8;

// Both: kExitUsage and a sentence that names the file, the rule and the key.
Failure ReadRulesFile(const std::string& path, Rules* rules);
Failure ParseRulesFile(const std::string& path, std::string_view text, Rules* rules);

}  // namespace gpuroom
