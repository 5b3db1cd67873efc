#include "cli/managed_options.h"

#include <fmt/format.h>

#include <cstdlib>

#include "base/env.h"
#include "cli/alloc_conf.h"
#include "cli/setting.h"
#include "range/names.h"
#include "range/rules.h"

namespace gpuroom {
namespace {

// In the order in which PyTorch prefers them.
constexpr const char* kConfs[] = {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"};

void NoteGiven(const Setting& setting, ManagedChoice* choice) {
  if (!setting.text.empty() && !setting.inherited && choice->given.empty()) choice->given = setting.source;
}

Failure ResolveBackend(const Setting& setting, ManagedChoice* choice) {
  if (setting.text.empty()) return {};
  if (!ParseBackend(setting.text)) {
    return Usage(
        fmt::format("{} '{}' is not a backend; take tiers or managed", setting.source, setting.text));
  }
  choice->backend = setting.text;
  return {};
}

Failure ResolvePrefetch(const Setting& setting, ManagedChoice* choice) {
  NoteGiven(setting, choice);
  if (setting.text.empty()) return {};
  return ParseSizeOrZero(setting.source, setting.text, &choice->prefetch_below);
}

Failure ResolveRatio(const Setting& setting, ManagedChoice* choice) {
  NoteGiven(setting, choice);
  if (setting.text.empty()) return {};
  const Result<double> ratio = ParseRatio(setting.text);
  if (!ratio.ok()) {
    return Usage(fmt::format("{} '{}' is {}", setting.source, setting.text, ratio.status().what()));
  }
  choice->ratio = setting.text;
  return {};
}

void ResolveAllow(const ManagedTexts& texts, ManagedChoice* choice) {
  const char* inherited = std::getenv(env::kAllowOversubscription);
  choice->allow = texts.allow || (inherited != nullptr && std::string_view(inherited) == "1");
  if (texts.allow && choice->given.empty()) choice->given = "--allow-oversubscription";
}

// What both variables ask for, the first before the second; takes it out of them.
Failure ReadConfs(AllocConf* merged, ManagedChoice* choice) {
  for (const char* name : kConfs) {
    const char* text = std::getenv(name);
    AllocConf conf;
    const Failure failure = text != nullptr ? ParseAllocConf(name, text, &conf) : Failure{};
    if (failure.failed()) return failure;
    if (!conf.ours) continue;
    choice->confs[name] = conf.rest.empty() ? std::nullopt : std::optional(conf.rest);
    if (!merged->use_uvm) merged->use_uvm = conf.use_uvm;
    if (!merged->ratio) merged->ratio = conf.ratio;
    if (!merged->pattern) merged->pattern = conf.pattern;
  }
  return {};
}

Failure ResolveConfs(ManagedChoice* choice) {
  AllocConf conf;
  const Failure failure = ReadConfs(&conf, choice);
  if (failure.failed()) return failure;
  if (!conf.use_uvm.value_or(false)) {
    if (!conf.ratio && !conf.pattern) return {};
    choice->warnings.emplace_back(
        "uvm_oversubscription_ratio and uvm_access_pattern mean nothing without use_uvm:True and are left "
        "out; "
        "add it, or give --backend managed with its own options");
    return {};
  }
  if (!choice->backend) choice->backend = BackendName(Backend::kManaged);
  if (!choice->managed()) return {};
  if (!choice->ratio) choice->ratio = conf.ratio;
  choice->pattern = conf.pattern;
  return {};
}

}  // namespace

ManagedOptions ManagedChoice::Options() const {
  ManagedOptions options;
  options.prefetch_below = prefetch_below.value_or(options.prefetch_below);
  if (ratio) options.ratio = *ParseRatio(*ratio);
  options.allow_oversubscription = allow;
  return options;
}

void AddManagedOptions(Parser* parser, ManagedTexts* texts) {
  parser->Value("--backend", &texts->backend);
  parser->Value("--prefetch-below", &texts->prefetch_below);
  parser->Value("--oversubscription-ratio", &texts->ratio);
  parser->Flag("--allow-oversubscription", &texts->allow);
}

Failure ResolveManagedOptions(const ManagedTexts& texts, ManagedChoice* choice) {
  Failure failure = ResolveBackend(Choose("--backend", texts.backend, env::kBackend), choice);
  if (failure.failed()) return failure;
  failure = ResolvePrefetch(Choose("--prefetch-below", texts.prefetch_below, env::kPrefetchBelow), choice);
  if (failure.failed()) return failure;
  failure =
      ResolveRatio(Choose("--oversubscription-ratio", texts.ratio, env::kOversubscriptionRatio), choice);
  if (failure.failed()) return failure;
  ResolveAllow(texts, choice);
  return ResolveConfs(choice);
}

bool MayBeManaged(const ManagedChoice& choice, const std::optional<std::string>& rules) {
  if (choice.managed()) return true;
  const Result<Rules> parsed = Rules::Parse(rules.value_or(""), nullptr);
  return parsed.ok() && parsed->AskForManaged();
}

Failure CheckManagedOptions(const ManagedChoice& choice, const std::optional<std::string>& rules) {
  if (choice.given.empty() || MayBeManaged(choice, rules)) return {};
  return Usage(
      fmt::format("{0} is for managed memory; add --backend managed, or leave {0} out", choice.given));
}

void AddManagedVariables(const ManagedChoice& choice, std::map<std::string, std::string>* variables) {
  if (choice.backend) (*variables)[env::kBackend] = *choice.backend;
  if (choice.prefetch_below) (*variables)[env::kPrefetchBelow] = std::to_string(*choice.prefetch_below);
  if (choice.ratio) (*variables)[env::kOversubscriptionRatio] = *choice.ratio;
  if (choice.allow) (*variables)[env::kAllowOversubscription] = "1";
  for (const auto& [name, value] : choice.confs) {
    if (value) (*variables)[name] = *value;
  }
}

}  // namespace gpuroom
