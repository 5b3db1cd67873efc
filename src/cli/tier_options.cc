#include "cli/tier_options.h"

#include <fmt/format.h>

#include "base/env.h"
#include "base/size.h"
#include "cli/setting.h"
#include "range/names.h"
#include "range/rules.h"
#include "topology/host_part.h"
#include "topology/link_speeds.h"
#include "topology/peer_choice.h"

namespace gpuroom {
namespace {

Failure ResolvePolicy(const Setting& setting, TierOptions* options) {
  if (setting.text.empty()) return {};
  if (!ParsePolicy(setting.text)) {
    return Usage(fmt::format("{} '{}' is not a policy; take gpu_first, balanced or cpu_first", setting.source,
                             setting.text));
  }
  options->policy = setting.text;
  return {};
}

Failure ResolveSize(const Setting& setting, std::optional<uint64_t>* bytes) {
  return setting.text.empty() ? Failure{} : ParseSizeOrZero(setting.source, setting.text, bytes);
}

// It makes `balanced` the policy; with another it would do nothing.
Failure ResolveExpect(const Setting& setting, TierOptions* options) {
  const Failure failure = ResolveSize(setting, &options->expect);
  if (failure.failed() || options->expect.value_or(0) == 0) return failure;
  if (options->policy.value_or("balanced") != "balanced") {
    return Usage(fmt::format("{} is for the policy balanced, and the policy is {}; leave one of the two out",
                             setting.source, *options->policy));
  }
  if (options->managed.backend.value_or("tiers") != "tiers") {
    return Usage(fmt::format("{} is for tiers, and the backend is {}; leave one of the two out",
                             setting.source, *options->managed.backend));
  }
  return {};
}

Failure ResolvePeers(const Setting& setting, TierOptions* options) {
  if (setting.text.empty()) return {};
  const Result<PeerChoice> choice = ParsePeerChoice(setting.text);
  if (!choice.ok())
    return Usage(fmt::format("{} '{}' is {}", setting.source, setting.text, choice.status().what()));
  options->peers = FormatPeerChoice(*choice);
  return {};
}

Failure ResolveHostPart(const Setting& setting, TierOptions* options) {
  if (setting.text.empty()) return {};
  const Result<HostPart> part = ParseHostPart(setting.text);
  if (!part.ok())
    return Usage(fmt::format("{} '{}' is {}", setting.source, setting.text, part.status().what()));
  options->host_part = FormatHostPart(*part);
  return {};
}

// The option names a file; the variable has the rules themselves.
Failure ResolveRules(const Setting& setting, TierOptions* options) {
  if (setting.text.empty()) return {};
  if (!setting.inherited) {
    options->rules_file = setting.text;
    return {};
  }
  RulesMistake mistake;
  const Result<Rules> rules = Rules::Parse(setting.text, &mistake);
  if (!rules.ok()) {
    return Usage(fmt::format("{}: rule {}{}{}", setting.source, mistake.rule,
                             mistake.part.empty() ? ": " : fmt::format(", '{}': ", mistake.part),
                             rules.status().what()));
  }
  options->rules = rules->Text();
  return {};
}

Failure ResolveLinkSpeeds(const Setting& setting, TierOptions* options) {
  if (setting.text.empty()) return {};
  const Result<LinkSpeeds> speeds = ParseLinkSpeeds(setting.text);
  if (!speeds.ok())
    return Usage(fmt::format("{} '{}' is {}", setting.source, setting.text, speeds.status().what()));
  options->link_speeds = FormatLinkSpeeds(*speeds);
  return {};
}

}  // namespace

void AddTierOptions(Parser* parser, TierTexts* texts) {
  parser->Value("--policy", &texts->policy);
  parser->Value("--expect", &texts->expect);
  parser->Value("--resident-below", &texts->resident_below);
  parser->Value("--peers", &texts->peers);
  parser->Value("--rules", &texts->rules);
  parser->Value("--host-part", &texts->host_part);
  parser->Value("--host-ahead", &texts->host_ahead);
  AddManagedOptions(parser, &texts->managed);
}

Failure ResolveTierOptions(const TierTexts& texts, TierOptions* options) {
  Failure failure = ResolvePolicy(Choose("--policy", texts.policy, env::kPolicy), options);
  if (failure.failed()) return failure;
  failure = ResolveSize(Choose("--resident-below", texts.resident_below, env::kResidentBelow),
                        &options->resident_below);
  if (failure.failed()) return failure;
  failure = ResolvePeers(Choose("--peers", texts.peers, env::kPeers), options);
  if (failure.failed()) return failure;
  failure = ResolveRules(Choose("--rules", texts.rules, env::kRules), options);
  if (failure.failed()) return failure;
  failure = ResolveHostPart(Choose("--host-part", texts.host_part, env::kHostPart), options);
  if (failure.failed()) return failure;
  failure = ResolveSize(Choose("--host-ahead", texts.host_ahead, env::kHostAhead), &options->host_ahead);
  if (failure.failed()) return failure;
  failure = ResolveManagedOptions(texts.managed, &options->managed);
  if (failure.failed()) return failure;
  if (!options->policy) options->policy = options->managed.pattern;
  failure = ResolveExpect(Choose("--expect", texts.expect, env::kExpect), options);
  if (failure.failed()) return failure;
  return ResolveLinkSpeeds(Choose("", "", env::kLinkSpeeds), options);
}

void AddTierVariables(const TierOptions& options, std::map<std::string, std::string>* variables) {
  const auto add = [variables](const char* name, const std::optional<std::string>& value) {
    if (value) (*variables)[name] = *value;
  };
  add(env::kPolicy, options.policy);
  add(env::kPeers, options.peers);
  add(env::kHostPart, options.host_part);
  if (options.rules && !options.rules->empty()) (*variables)[env::kRules] = *options.rules;
  add(env::kLinkSpeeds, options.link_speeds);
  AddManagedVariables(options.managed, variables);
  if (options.expect) (*variables)[env::kExpect] = std::to_string(*options.expect);
  if (options.resident_below) (*variables)[env::kResidentBelow] = std::to_string(*options.resident_below);
  if (options.host_ahead) (*variables)[env::kHostAhead] = std::to_string(*options.host_ahead);
}

}  // namespace gpuroom
