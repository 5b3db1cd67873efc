// The options of `gpuroom run` that steer where data goes: backend, policy, how much there will
// be, what belongs in HBM, peers, rules, parts of host memory and memory ahead of need, link speeds. Checked
// here, and passed on to the shim in the form of its variables (base/env.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "cli/exit_codes.h"
#include "cli/managed_options.h"
#include "cli/parser.h"

namespace gpuroom {

// As typed; empty: not given.
struct TierTexts {
  std::string policy;
  std::string expect;
  std::string resident_below;
  std::string peers;
  std::string rules;  // a file
  std::string host_part;
  std::string host_ahead;
  ManagedTexts managed;
};

// Checked. What is empty is left to the shim's defaults.
struct TierOptions {
  std::optional<std::string> policy;
  std::optional<uint64_t> expect;          // bytes
  std::optional<uint64_t> resident_below;  // bytes
  std::optional<std::string> peers;        // as FormatPeerChoice writes it
  std::string rules_file;                  // --rules; not opened yet
  std::optional<std::string> rules;        // as Rules::Text writes it
  std::optional<std::string> host_part;    // as FormatHostPart writes it
  std::optional<uint64_t> host_ahead;      // bytes
  std::optional<std::string> link_speeds;  // as FormatLinkSpeeds writes it
  ManagedChoice managed;
};

// `texts` outlives the parser.
void AddTierOptions(Parser* parser, TierTexts* texts);

// Checks texts and, where they are empty, this process's environment. Opens no file.
Failure ResolveTierOptions(const TierTexts& texts, TierOptions* options);

// The variables that say `options` to the shim.
void AddTierVariables(const TierOptions& options, std::map<std::string, std::string>* variables);

}  // namespace gpuroom
