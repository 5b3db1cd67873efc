#include "cli/alloc_conf.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/temporary.h"
#include "cli/parser.h"
#include "range/managed_cap.h"
#include "range/names.h"

namespace gpuroom {
namespace {

constexpr std::string_view kUseUvm = "use_uvm";
constexpr std::string_view kRatio = "uvm_oversubscription_ratio";
constexpr std::string_view kPattern = "uvm_access_pattern";

std::vector<std::string_view> SplitEntries(TemporaryString auto&& text) = delete;
std::vector<std::string_view> SplitEntries(std::string_view text) {
  std::vector<std::string_view> entries;
  size_t begin = 0;
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '[') ++depth;
    if (text[i] == ']') depth = std::max(depth - 1, 0);
    if (text[i] != ',' || depth > 0) continue;
    entries.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  entries.push_back(text.substr(begin));
  return entries;
}

std::string WithoutSpaces(std::string_view text) {
  std::string kept(text);
  kept.erase(std::remove(kept.begin(), kept.end(), ' '), kept.end());
  return kept;
}

// "" where the value will do, else what would.
std::string SetValue(std::string_view key, const std::string& value, AllocConf* conf) {
  if (key == kUseUvm) {
    if (value != "True" && value != "False") return "write True or False";
    conf->use_uvm = value == "True";
  } else if (key == kRatio) {
    const Result<double> ratio = ParseRatio(value);
    if (!ratio.ok()) return "write a number from 0.1 to 100, such as 5.0";
    conf->ratio = value;
  } else {
    if (!ParsePolicy(value)) return "take gpu_first, balanced or cpu_first";
    conf->pattern = value;
  }
  return "";
}

}  // namespace

Failure ParseAllocConf(const std::string& variable, std::string_view text, AllocConf* conf) {
  std::vector<std::string_view> kept;
  for (const std::string_view entry : SplitEntries(text)) {
    const size_t colon = std::min(entry.find(':'), entry.size());
    const std::string key = WithoutSpaces(entry.substr(0, colon));
    if (key != kUseUvm && key != kRatio && key != kPattern) {
      kept.push_back(entry);
      continue;
    }
    conf->ours = true;
    const std::string value = WithoutSpaces(entry.substr(std::min(colon + 1, entry.size())));
    const std::string mistake = SetValue(key, value, conf);
    if (!mistake.empty()) return Usage(fmt::format("{}: {} '{}': {}", variable, key, value, mistake));
  }
  const bool nothing_left = std::all_of(kept.begin(), kept.end(), [](std::string_view entry) {
    return entry.find_first_not_of(' ') == std::string_view::npos;
  });
  conf->rest = nothing_left ? "" : fmt::format("{}", fmt::join(kept, ","));
  return {};
}

}  // namespace gpuroom
