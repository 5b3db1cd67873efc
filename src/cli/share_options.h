// The options of `gpuroom run` for programs that take turns on their GPUs. Checked here, and passed on to the
// library in the form of its variables (base/env.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "cli/exit_codes.h"
#include "cli/installation.h"
#include "cli/parser.h"

namespace gpuroom {

// As typed; empty: not given.
struct ShareTexts {
  bool share = false;
  std::string group;
  std::string priority;
  std::string reserve;
  std::string quantum;
  std::string idle_after;
};

// Checked. What is empty is left to the library's defaults.
struct ShareOptions {
  std::string group;  // "": the program does not share
  std::optional<std::string> priority;
  std::optional<uint64_t> reserve;  // bytes
  std::string quantum;              // as ParseInterval reads it, as the next one
  std::string idle_after;
};

// `texts` outlives the parser.
void AddShareOptions(Parser* parser, ShareTexts* texts);

// Checks texts and, where they are empty, this process's environment.
Failure ResolveShareOptions(const ShareTexts& texts, ShareOptions* options);

// The variables that say `options` to the library. The arbiter is this very program.
void AddShareVariables(const ShareOptions& options, const Installation& installation,
                       std::map<std::string, std::string>* variables);

}  // namespace gpuroom
