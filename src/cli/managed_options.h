// The options of `gpuroom run` on the backend and on managed memory, with what the allocator
// configuration of PyTorch's UVM patches asks for (alloc_conf.h). An option goes before a variable
// of gpuroom's own, and that before the configuration.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/exit_codes.h"
#include "cli/parser.h"
#include "range/managed_cap.h"

namespace gpuroom {

// As typed; empty: not given.
struct ManagedTexts {
  std::string backend;
  std::string prefetch_below;
  std::string ratio;
  bool allow = false;
};

// Checked. What is empty is left to the preloaded library's defaults.
struct ManagedChoice {
  std::optional<std::string> backend;
  std::optional<uint64_t> prefetch_below;  // bytes
  std::optional<std::string> ratio;
  bool allow = false;
  std::optional<std::string> pattern;  // a policy, which --policy and its variable go before
  // Variables of PyTorch's that CMD gets otherwise; none: not at all.
  std::map<std::string, std::optional<std::string>> confs;
  std::vector<std::string> warnings;  // sentences
  std::string given;                  // an option that is for managed memory alone; "": none

  bool managed() const { return backend == "managed"; }
  ManagedOptions Options() const;
};

// `texts` outlives the parser.
void AddManagedOptions(Parser* parser, ManagedTexts* texts);

// Checks texts and this process's environment.
Failure ResolveManagedOptions(const ManagedTexts& texts, ManagedChoice* choice);

// Whether anything may become managed memory: by the backend or by one of `rules`, a text that
// Rules::Parse takes.
bool MayBeManaged(const ManagedChoice& choice, const std::optional<std::string>& rules);

// Refuses an option that nothing here makes use of.
Failure CheckManagedOptions(const ManagedChoice& choice, const std::optional<std::string>& rules);

void AddManagedVariables(const ManagedChoice& choice, std::map<std::string, std::string>* variables);

}  // namespace gpuroom
