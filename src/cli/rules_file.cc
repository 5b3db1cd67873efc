#include "cli/rules_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/size.h"
#include "cli/small_file.h"
#include "cli/suggest.h"
#include "range/names.h"

namespace gpuroom {
namespace {

using PlainJson = nlohmann::json;

constexpr char kForm[] = R"({"rules": [{"min": "1GiB", "tag": "kv_cache", "hint": "cold"}]})";

// What is wrong, as the end of a sentence that begins with the file or the rule; "": nothing.
using Mistake = std::string;

Mistake SetSize(const std::string& key, const PlainJson& value, uint64_t* bytes) {
  if (value.is_number_unsigned()) {
    *bytes = value.get<uint64_t>();
    return "";
  }
  if (!value.is_string())
    return fmt::format("\"{}\" is not a size; write one such as \"6GiB\", or a number of bytes", key);
  const Result<uint64_t> size = ParseSize(value.get<std::string>());
  if (!size.ok())
    return fmt::format("\"{}\" '{}' is {}", key, value.get<std::string>(), size.status().what());
  *bytes = *size;
  return "";
}

Mistake SetWord(const std::string& key, const PlainJson& value, Rule* rule) {
  const std::string word = value.is_string() ? value.get<std::string>() : value.dump();
  if (key == "policy") {
    if (value.is_string()) rule->policy = ParsePolicy(word);
    if (rule->policy) return "";
    return fmt::format("\"policy\" '{}' is not a policy; take gpu_first, balanced or cpu_first", word);
  }
  if (key == "hint") {
    if (value.is_string()) rule->hint = ParseHint(word);
    if (rule->hint) return "";
    return fmt::format("\"hint\" '{}' is not a hint; take hot, cold, stream or none", word);
  }
  if (key == "backend") {
    if (value.is_string()) rule->backend = ParseBackend(word);
    if (rule->backend) return "";
    return fmt::format("\"backend\" '{}' is not a backend; take tiers or managed", word);
  }
  if (!value.is_string() || !IsTag(word)) {
    return fmt::format(
        "\"tag\" '{}' is not a tag; write a text of 1 to 63 bytes without ',', ';' and control characters",
        word);
  }
  rule->SetTag(word);
  return "";
}

Mistake SetKey(const std::string& key, const PlainJson& value, Rule* rule) {
  if (key == "min") return SetSize(key, value, &rule->min_bytes);
  if (key == "max") return SetSize(key, value, &rule->max_bytes);
  if (key == "tag" || key == "policy" || key == "hint" || key == "backend") return SetWord(key, value, rule);
  return fmt::format("the key \"{}\" is unknown{}", key,
                     DidYouMean(key, {"min", "max", "tag", "policy", "hint", "backend"},
                                "; take min, max, tag, policy, hint and backend"));
}

Mistake ToRule(const PlainJson& json, Rule* rule) {
  if (!json.is_object()) return fmt::format("it is not an object; write {}", kForm);
  for (const auto& [key, value] : json.items()) {
    const Mistake mistake = SetKey(key, value, rule);
    if (!mistake.empty()) return mistake;
  }
  const Status status = Rules::Check(*rule);
  return status.ok() ? "" : status.what();
}

Mistake CheckWhole(const PlainJson& json) {
  if (json.is_discarded()) return fmt::format("is not JSON; write {}", kForm);
  if (!json.is_object() || !json.contains("rules") || !json["rules"].is_array())
    return fmt::format("has no array \"rules\"; write {}", kForm);
  for (const auto& [key, value] : json.items()) {
    if (key != "rules") return fmt::format("has the unknown key \"{}\"; \"rules\" is the only one", key);
  }
  if (json["rules"].size() > Rules::kMost)
    return fmt::format("has {} rules; {} are the most", json["rules"].size(), Rules::kMost);
  return "";
}

// nlohmann's parser keeps the last of a repeated key; here that is a mistake.
PlainJson ParseStrictly(std::string_view text, std::string* repeated) {
  std::vector<std::vector<std::string>> open;
  const PlainJson::parser_callback_t watch = [&](int, PlainJson::parse_event_t event, PlainJson& value) {
    if (event == PlainJson::parse_event_t::object_start) open.emplace_back();
    if (event == PlainJson::parse_event_t::object_end) open.pop_back();
    if (event != PlainJson::parse_event_t::key) return true;
    const auto key = value.get<std::string>();
    std::vector<std::string>& keys = open.back();
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) *repeated = key;
    keys.push_back(key);
    return true;
  };
  return PlainJson::parse(text, watch, false);
}

}  // namespace

Failure ParseRulesFile(const std::string& path, std::string_view text, Rules* rules) {
  const auto refuse = [&path](const std::string& mistake) {
    return Failure{kExitUsage, fmt::format("--rules '{}' {}", path, mistake)};
  };
  std::string repeated;
  const PlainJson json = ParseStrictly(text, &repeated);
  const Mistake whole = CheckWhole(json);
  if (!whole.empty()) return refuse(whole);
  if (!repeated.empty())
    return refuse(fmt::format("has \"{}\" twice in one object; leave one out", repeated));
  size_t number = 0;
  for (const PlainJson& each : json["rules"]) {
    Rule rule;
    const Mistake mistake = ToRule(each, &rule);
    ++number;
    if (!mistake.empty()) {
      return {kExitUsage, fmt::format("--rules '{}', rule {}: {}", path, number, mistake)};
    }
    rules->Add(rule);
  }
  return {};
}

Failure ReadRulesFile(const std::string& path, Rules* rules) {
  std::string text;
  const Status status = ReadSmallFile(path, &text);
  if (status.ok()) return ParseRulesFile(path, text, rules);
  return {kExitUsage, fmt::format("--rules '{}' cannot be read: {}; name a readable file of rules", path,
                                  DescribeReadFailure(status))};
}

}  // namespace gpuroom
