#include "range/rules.h"

#include <algorithm>

#include "base/size.h"
#include "range/names.h"

namespace gpuroom {
namespace {

Status Invalid(const char* what) { return Status(Code::kInvalidArgument, what); }

// Cuts the part before `separator` off `text`, which is a null view after the last
// part: an empty part at the end is one, too. False when nothing is left.
bool NextPart(char separator, bool* first, std::string_view* text, std::string_view* part) {
  if (!*first && text->data() == nullptr) return false;
  *first = false;
  const size_t end = text->find(separator);
  *part = text->substr(0, end);
  *text = end == std::string_view::npos ? std::string_view() : text->substr(end + 1);
  return true;
}

Status SetSize(std::string_view value, uint64_t* bytes) {
  const Result<uint64_t> size = ParseSize(value);
  if (!size.ok()) return size.status();
  *bytes = *size;
  return Status();
}

Status SetPolicy(std::string_view value, Rule* rule) {
  rule->policy = ParsePolicy(value);
  return rule->policy ? Status() : Invalid("not a policy; take gpu_first, balanced or cpu_first");
}

Status SetHint(std::string_view value, Rule* rule) {
  rule->hint = ParseHint(value);
  return rule->hint ? Status() : Invalid("not a hint; take hot, cold, stream or none");
}

Status SetBackend(std::string_view value, Rule* rule) {
  rule->backend = ParseBackend(value);
  return rule->backend ? Status() : Invalid("not a backend; take tiers or managed");
}

constexpr std::string_view kNames[] = {"min", "max", "tag", "policy", "hint", "backend"};

// One NAME=VALUE; `seen` has a bit for each name that the rule has had.
Status SetPart(std::string_view part, unsigned* seen, Rule* rule) {
  const size_t equals = part.find('=');
  if (equals == std::string_view::npos) return Invalid("without '='; write NAME=VALUE");
  const auto* name = std::find(std::begin(kNames), std::end(kNames), part.substr(0, equals));
  if (name == std::end(kNames))
    return Invalid("unknown; the names are min, max, tag, policy, hint and backend");
  const std::string_view value = part.substr(equals + 1);
  const unsigned bit = 1U << (name - kNames);
  if ((*seen & bit) != 0) return Invalid("there twice; leave one out");
  *seen |= bit;
  if (*name == "min") return SetSize(value, &rule->min_bytes);
  if (*name == "max") return SetSize(value, &rule->max_bytes);
  if (*name == "policy") return SetPolicy(value, rule);
  if (*name == "hint") return SetHint(value, rule);
  if (*name == "backend") return SetBackend(value, rule);
  if (!IsTag(value))
    return Invalid("not a tag; a tag has 1 to 63 bytes and no ',', ';' or control character");
  rule->SetTag(value);
  return Status();
}

Status ParseRule(std::string_view text, Rule* rule, std::string_view* part) {
  unsigned seen = 0;
  for (bool first = true; NextPart(',', &first, &text, part);) {
    const Status status = SetPart(*part, &seen, rule);
    if (!status.ok()) return status;
  }
  *part = std::string_view();
  return Rules::Check(*rule);
}

}  // namespace

bool IsTag(std::string_view text) {
  return !text.empty() && text.size() <= kMaxTag && std::none_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f || c == ',' || c == ';';
  });
}

void Rule::SetTag(std::string_view text) {
  const size_t length = std::min(text.size(), kMaxTag);
  std::copy_n(text.data(), length, tag.data());
  tag[length] = '\0';
}

bool Rule::Matches(uint64_t bytes, std::string_view allocation_tag) const {
  return bytes >= min_bytes && bytes <= max_bytes && (tag[0] == '\0' || Tag() == allocation_tag);
}

Status Rules::Check(const Rule& rule) {
  if (rule.min_bytes > rule.max_bytes) return Invalid("min is more than max; swap them");
  if (!rule.policy && !rule.hint && !rule.backend)
    return Invalid("it has neither policy nor hint nor backend; add one");
  return Status();
}

bool Rules::Add(const Rule& rule) {
  if (rules_.size() >= kMost) return false;
  rules_.push_back(rule);
  return true;
}

Result<Rules> Rules::Parse(std::string_view text, RulesMistake* mistake) {
  Rules rules;
  RulesMistake where;
  if (text.empty()) return rules;
  std::string_view line;
  for (bool first = true; NextPart(';', &first, &text, &line);) {
    ++where.rule;
    Rule rule;
    Status status = ParseRule(line, &rule, &where.part);
    if (status.ok() && !rules.Add(rule)) status = Invalid("one too many; 256 rules are the most");
    if (status.ok()) continue;
    where.part = where.part.substr(0, RulesMistake::kMaxQuoted);
    if (mistake != nullptr) *mistake = where;
    return status;
  }
  return rules;
}

std::string Rules::Text() const {
  std::string text;
  for (const Rule& rule : rules_) {
    std::string line;
    const auto add = [&line](const char* name, const std::string& value) {
      line += (line.empty() ? "" : ",") + std::string(name) + "=" + value;
    };
    if (rule.min_bytes != 0) add("min", std::to_string(rule.min_bytes));
    if (rule.max_bytes != UINT64_MAX) add("max", std::to_string(rule.max_bytes));
    if (rule.tag[0] != '\0') add("tag", std::string(rule.Tag()));
    if (rule.policy) add("policy", PolicyName(*rule.policy));
    if (rule.hint) add("hint", HintName(*rule.hint));
    if (rule.backend) add("backend", BackendName(*rule.backend));
    text += (text.empty() ? "" : ";") + line;
  }
  return text;
}

bool Rules::AskForManaged() const {
  return std::any_of(rules_.begin(), rules_.end(),
                     [](const Rule& rule) { return rule.backend == Backend::kManaged; });
}

bool Rules::Apply(uint64_t bytes, std::string_view tag, PlanRequest* request) const {
  const auto rule = std::find_if(rules_.begin(), rules_.end(),
                                 [bytes, tag](const Rule& each) { return each.Matches(bytes, tag); });
  if (rule == rules_.end()) return false;
  if (rule->policy) request->policy = *rule->policy;
  if (rule->hint) request->hint = *rule->hint;
  if (rule->backend) request->backend = *rule->backend;
  return true;
}

}  // namespace gpuroom
