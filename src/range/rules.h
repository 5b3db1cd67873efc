// Rules: policy, hint and backend by an allocation's size or tag, over what options and the
// program say. Plain values; once made, any thread may apply them at once, and
// applying neither allocates nor blocks.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "range/plan.h"

namespace gpuroom {

// A tag is 1 to 63 bytes without control characters, ',' and ';'.
inline constexpr size_t kMaxTag = 63;
bool IsTag(std::string_view text);

struct Rule {
  uint64_t min_bytes = 0;               // sizes from here
  uint64_t max_bytes = UINT64_MAX;      // to here, both included
  std::array<char, kMaxTag + 1> tag{};  // "": whatever the tag
  std::optional<Policy> policy;
  std::optional<Hint> hint;
  std::optional<Backend> backend;

  void SetTag(std::string_view text);  // IsTag(text)
  std::string_view Tag() const& { return tag.data(); }
  std::string_view Tag() const&& = delete;
  bool Matches(uint64_t bytes, std::string_view allocation_tag) const;
};

// Where a text went wrong, for the sentence about it.
struct RulesMistake {
  size_t rule = 0;  // counted from 1
  // Of the text that was parsed, its first kMaxQuoted bytes: a log line has room for them. Empty: the
  // rule as a whole.
  static constexpr size_t kMaxQuoted = 64;
  std::string_view part;
};

class Rules {
 public:
  static constexpr size_t kMost = 256;

  // One line: rules separated by ';', each of NAME=VALUE separated by ',':
  //   min=1GiB,max=8GiB,tag=kv_cache,policy=cpu_first,hint=cold;tag=weights,hint=hot
  // Every rule has one or more of policy, hint and backend (tiers or managed); all else may be
  // left out. Empty text: no rules.
  // kInvalidArgument otherwise; *mistake (may be null) says where.
  static Result<Rules> Parse(std::string_view text, RulesMistake* mistake);
  // The same form, sizes in bytes; Parse reads it back.
  std::string Text() const;

  // What is wrong with a rule, as Parse checks it.
  static Status Check(const Rule& rule);
  // Appends a rule that Check allows. False: there are kMost already.
  bool Add(const Rule& rule);

  // The first rule that matches sets what it has of policy, hint and backend. Whether data
  // is `resident` stays: small data that is to leave HBM needs a hint. False: none matches.
  bool Apply(uint64_t bytes, std::string_view tag, PlanRequest* request) const;

  // Whether any rule makes something managed memory.
  bool AskForManaged() const;

  const std::vector<Rule>& rules() const& { return rules_; }
  const std::vector<Rule>& rules() const&& = delete;

 private:
  std::vector<Rule> rules_;
};

}  // namespace gpuroom
