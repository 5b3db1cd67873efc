#include "cli/share_options.h"

#include <fmt/format.h>

#include "base/env.h"
#include "base/interval.h"
#include "cli/setting.h"
#include "share/share_place.h"
#include "share/share_terms.h"

namespace gpuroom {
namespace {

Failure ResolveGroup(const ShareTexts& texts, ShareOptions* options) {
  const Setting group = Choose("--share-group", texts.group, env::kShareGroup);
  options->group = texts.share && group.text.empty() ? kDefaultShareGroup : group.text;
  if (options->group.empty() || IsShareGroup(options->group)) return {};
  return Usage(fmt::format("{} '{}' is no name for a group; take up to 32 letters, digits, '-' and '_'",
                           group.source, options->group));
}

Failure ResolvePriority(const Setting& setting, ShareOptions* options) {
  if (setting.text.empty()) return {};
  if (!ParseSharePriority(setting.text)) {
    return Usage(fmt::format("{} '{}' is not a priority; take batch, normal or interactive", setting.source,
                             setting.text));
  }
  options->priority = setting.text;
  return {};
}

Failure ResolveInterval(const Setting& setting, std::string* text) {
  const Result<uint64_t> time = setting.text.empty() ? Result<uint64_t>(0) : ParseInterval(setting.text);
  if (!time.ok())
    return Usage(fmt::format("{} '{}' is {}", setting.source, setting.text, time.status().what()));
  *text = setting.text;
  return {};
}

// An option that would do nothing: the first that was given.
const char* GivenWithoutShare(const ShareTexts& texts) {
  if (!texts.priority.empty()) return "--share-priority";
  if (!texts.reserve.empty()) return "--share-reserve";
  if (!texts.quantum.empty()) return "--share-quantum";
  return texts.idle_after.empty() ? nullptr : "--idle-after";
}

}  // namespace

void AddShareOptions(Parser* parser, ShareTexts* texts) {
  parser->Flag("--share", &texts->share);
  parser->Value("--share-group", &texts->group);
  parser->Value("--share-priority", &texts->priority);
  parser->Value("--share-reserve", &texts->reserve);
  parser->Value("--share-quantum", &texts->quantum);
  parser->Value("--idle-after", &texts->idle_after);
}

Failure ResolveShareOptions(const ShareTexts& texts, ShareOptions* options) {
  Failure failure = ResolveGroup(texts, options);
  if (failure.failed()) return failure;
  const char* alone = GivenWithoutShare(texts);
  if (options->group.empty()) {
    return alone == nullptr
               ? Failure{}
               : Usage(fmt::format("{} goes with --share; add it, or leave {} out", alone, alone));
  }
  failure = ResolvePriority(Choose("--share-priority", texts.priority, env::kSharePriority), options);
  if (failure.failed()) return failure;
  const Setting reserve = Choose("--share-reserve", texts.reserve, env::kShareReserve);
  if (!reserve.text.empty()) failure = ParseSizeOrZero(reserve.source, reserve.text, &options->reserve);
  if (failure.failed()) return failure;
  failure = ResolveInterval(Choose("--share-quantum", texts.quantum, env::kShareQuantum), &options->quantum);
  if (failure.failed()) return failure;
  return ResolveInterval(Choose("--idle-after", texts.idle_after, env::kIdleAfter), &options->idle_after);
}

void AddShareVariables(const ShareOptions& options, const Installation& installation,
                       std::map<std::string, std::string>* variables) {
  if (options.group.empty()) return;
  (*variables)[env::kShareGroup] = options.group;
  (*variables)[env::kShareArbiter] = installation.exe;
  if (options.priority) (*variables)[env::kSharePriority] = *options.priority;
  if (options.reserve) (*variables)[env::kShareReserve] = std::to_string(*options.reserve);
  if (!options.quantum.empty()) (*variables)[env::kShareQuantum] = options.quantum;
  if (!options.idle_after.empty()) (*variables)[env::kIdleAfter] = options.idle_after;
}

}  // namespace gpuroom
