#include "cli/rules_file.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
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

// A text of the file as a sentence can quote it.
std::string Quotable(const std::string& text) {
  constexpr size_t kMost = 64;
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

// A number of bytes is held to the same bounds as a text: "min": 9223372036854775808 is too large.
Mistake SetSize(const std::string& key, const PlainJson& value, uint64_t* bytes) {
  if (!value.is_string() && !value.is_number_unsigned())
    return fmt::format("\"{}\" is not a size; write one such as \"6GiB\", or a number of bytes", key);
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  const Result<uint64_t> size = ParseSize(text);
  if (!size.ok()) return fmt::format("\"{}\" '{}' is {}", key, Quotable(text), size.status().what());
  *bytes = *size;
  return "";
}

Mistake SetWord(const std::string& key, const PlainJson& value, Rule* rule) {
  const std::string word = value.is_string() ? value.get<std::string>() : value.dump();
  if (key == "policy") {
    if (value.is_string()) rule->policy = ParsePolicy(word);
    if (rule->policy) return "";
    return fmt::format("\"policy\" '{}' is not a policy; take gpu_first, balanced or cpu_first",
                       Quotable(word));
  }
  if (key == "hint") {
    if (value.is_string()) rule->hint = ParseHint(word);
    if (rule->hint) return "";
    return fmt::format("\"hint\" '{}' is not a hint; take hot, cold, stream or none", Quotable(word));
  }
  if (key == "backend") {
    if (value.is_string()) rule->backend = ParseBackend(word);
    if (rule->backend) return "";
    return fmt::format("\"backend\" '{}' is not a backend; take tiers or managed", Quotable(word));
  }
  if (!value.is_string() || !IsTag(word)) {
    return fmt::format(
        "\"tag\" '{}' is not a tag; write a text of 1 to 63 bytes without ',', ';' and control characters",
        Quotable(word));
  }
  rule->SetTag(word);
  return "";
}

Mistake SetKey(const std::string& key, const PlainJson& value, Rule* rule) {
  if (key == "min") return SetSize(key, value, &rule->min_bytes);
  if (key == "max") return SetSize(key, value, &rule->max_bytes);
  if (key == "tag" || key == "policy" || key == "hint" || key == "backend") return SetWord(key, value, rule);
  return fmt::format("the key \"{}\" is unknown{}", Quotable(key),
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
  if (!json.is_object() || !json.contains("rules") || !json["rules"].is_array())
    return fmt::format("has no array \"rules\"; write {}", kForm);
  for (const auto& [key, value] : json.items()) {
    if (key != "rules")
      return fmt::format("has the unknown key \"{}\"; \"rules\" is the only one", Quotable(key));
  }
  if (json["rules"].size() > Rules::kMost)
    return fmt::format("has {} rules; {} are the most", json["rules"].size(), Rules::kMost);
  return "";
}

// Looks at the text before a document is built of it, and stops at what must not be built. Depth: printing
// and copying a document call themselves once a level. Repeated keys: nlohmann's parser keeps the last.
class Inspection : public nlohmann::json_sax<PlainJson> {
 public:
  // "": `text` is JSON that may be built.
  static Mistake Of(std::string_view text) {
    Inspection inspection;
    PlainJson::sax_parse(text, &inspection);
    return inspection.mistake_;
  }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return Enter(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    mistake_ = fmt::format("has \"{}\" twice in one object; leave one out", Quotable(name));
    return false;
  }
  bool parse_error(std::size_t, const std::string&, const PlainJson::exception&) override {
    mistake_ = fmt::format("is not JSON; write {}", kForm);
    return false;
  }

 private:
  bool Enter() {
    keys_.emplace_back();
    if (keys_.size() <= kMostRulesDepth) return true;
    mistake_ = fmt::format("is nested more than {} levels deep; write {}", kMostRulesDepth, kForm);
    return false;
  }
  bool Leave() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> keys_;  // of each object or array that is open
  Mistake mistake_;
};

}  // namespace

Failure ParseRulesFile(const std::string& path, std::string_view text, Rules* rules) {
  const auto refuse = [&path](const std::string& mistake) {
    return Failure{kExitUsage, fmt::format("--rules '{}' {}", path, mistake)};
  };
  const Mistake form = Inspection::Of(text);
  if (!form.empty()) return refuse(form);
  const PlainJson json = PlainJson::parse(text);
  const Mistake whole = CheckWhole(json);
  if (!whole.empty()) return refuse(whole);
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
