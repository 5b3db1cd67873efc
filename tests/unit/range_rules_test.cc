// Rules by size and tag: what matches, what it changes, and what is refused with which words.
#include <gtest/gtest.h>

#include <random>

#include "base/size.h"
#include "range/names.h"
#include "range/rules.h"

namespace gpuroom {
namespace {

Rules Parsed(std::string_view text) {
  RulesMistake mistake;
  Result<Rules> rules = Rules::Parse(text, &mistake);
  EXPECT_TRUE(rules.ok()) << text << ": " << rules.status().what();
  return rules.ok() ? *rules : Rules();
}

struct Applied {
  bool matched;
  Policy policy;
  Hint hint;
  bool operator==(const Applied& other) const {
    return matched == other.matched && policy == other.policy && hint == other.hint;
  }
};

Applied Apply(const Rules& rules, uint64_t bytes, std::string_view tag = "") {
  PlanRequest request;
  const bool matched = rules.Apply(bytes, tag, &request);
  return {matched, request.policy, request.hint};
}

constexpr Applied kUntouched{false, Policy::kGpuFirst, Hint::kNone};

TEST(Rules, NoTextIsNoRules) {
  const Rules rules = Parsed("");
  EXPECT_TRUE(rules.rules().empty());
  EXPECT_EQ(rules.Text(), "");
  EXPECT_EQ(Apply(rules, 5), kUntouched);
}

TEST(Rules, SizesAreIncludedAtBothEnds) {
  const Rules rules = Parsed("min=1GiB,max=8GiB,policy=cpu_first");
  const Applied matched{true, Policy::kCpuFirst, Hint::kNone};
  EXPECT_EQ(Apply(rules, kGiB - 1), kUntouched);
  EXPECT_EQ(Apply(rules, kGiB), matched);
  EXPECT_EQ(Apply(rules, 8 * kGiB), matched);
  EXPECT_EQ(Apply(rules, 8 * kGiB + 1), kUntouched);
}

TEST(Rules, ATagHasToBeTheSame) {
  const Rules rules = Parsed("tag=kv_cache,hint=cold");
  EXPECT_EQ(Apply(rules, 5, "kv_cache"), (Applied{true, Policy::kGpuFirst, Hint::kCold}));
  for (const char* tag : {"", "kv", "kv_cache2", "KV_CACHE"}) EXPECT_EQ(Apply(rules, 5, tag), kUntouched);
}

TEST(Rules, TheFirstThatMatchesWins) {
  const Rules rules = Parsed("tag=weights,hint=hot;min=1GiB,hint=cold;policy=balanced");
  EXPECT_EQ(Apply(rules, kGiB, "weights"), (Applied{true, Policy::kGpuFirst, Hint::kHot}));
  EXPECT_EQ(Apply(rules, kGiB, "other"), (Applied{true, Policy::kGpuFirst, Hint::kCold}));
  EXPECT_EQ(Apply(rules, kMiB, "other"), (Applied{true, Policy::kBalanced, Hint::kNone}));
}

TEST(Rules, OnlyWhatARuleHasIsSet) {
  PlanRequest request;
  request.policy = Policy::kBalanced;
  request.hint = Hint::kStream;
  request.resident = true;
  EXPECT_TRUE(Parsed("hint=none").Apply(5, "", &request));
  EXPECT_EQ(request.policy, Policy::kBalanced);
  EXPECT_EQ(request.hint, Hint::kNone);
  EXPECT_TRUE(request.resident);
}

TEST(Rules, ABackendIsEnoughForARule) {
  PlanRequest request;
  EXPECT_FALSE(Parsed("min=1GiB,backend=managed").Apply(5, "", &request));
  EXPECT_EQ(request.backend, Backend::kTiers);
  EXPECT_TRUE(Parsed("min=1GiB,backend=managed").Apply(kGiB, "", &request));
  EXPECT_EQ(request.backend, Backend::kManaged);
  EXPECT_TRUE(Parsed("backend=tiers,hint=cold").Apply(5, "", &request));
  EXPECT_EQ(request.backend, Backend::kTiers);
  EXPECT_EQ(request.hint, Hint::kCold);
  EXPECT_TRUE(Parsed("hint=hot;backend=managed").AskForManaged());
  EXPECT_FALSE(Parsed("hint=hot;backend=tiers").AskForManaged());
  EXPECT_EQ(Parsed("backend=managed,policy=cpu_first,tag=kv").Text(),
            "tag=kv,policy=cpu_first,backend=managed");
}

TEST(Rules, TheTextComesBack) {
  const std::string text = "min=1073741824,max=8589934592,tag=kv cache=1,policy=cpu_first,hint=cold;hint=hot";
  EXPECT_EQ(Parsed(text).Text(), text);
  EXPECT_EQ(Parsed("hint=cold,min=1GiB").Text(), "min=1073741824,hint=cold");
}

TEST(Rules, MistakesAreNamedWithTheirPlace) {
  struct Mistaken {
    const char* text;
    size_t rule;
    const char* part;
    const char* words;
  };
  const Mistaken cases[] = {
      {"hint", 1, "hint", "without '='"},
      {"hint=warm", 1, "hint=warm", "take hot, cold, stream or none"},
      {"backend=uvm", 1, "backend=uvm", "take tiers or managed"},
      {"backend=managed,backend=tiers", 1, "backend=tiers", "twice"},
      {"hint=hot;policy=fast", 2, "policy=fast", "take gpu_first, balanced or cpu_first"},
      {"hint=hot;colour=red", 2, "colour=red", "the names are min, max, tag, policy, hint and backend"},
      {"min=lots,hint=hot", 1, "min=lots", "not a size"},
      {"max=-1,hint=hot", 1, "max=-1", "not a size"},
      {"max=99999999999999999999,hint=hot", 1, "max=99999999999999999999", "too large"},
      {"hint=hot,min=1,min=2", 1, "min=2", "twice"},
      {"tag=,hint=hot", 1, "tag=", "not a tag"},
      {"tag=a\tb,hint=hot", 1, "tag=a\tb", "not a tag"},
      {"min=2,max=1,hint=hot", 1, "", "min is more than max"},
      {"min=2", 1, "", "neither policy nor hint"},
      {"hint=hot;", 2, "", "without '='"},
      {";", 1, "", "without '='"},
      {"hint=hot,,min=1", 1, "", "without '='"},
      {" hint=hot", 1, " hint=hot", "the names are"},
  };
  for (const Mistaken& each : cases) {
    RulesMistake mistake;
    const Result<Rules> rules = Rules::Parse(each.text, &mistake);
    ASSERT_FALSE(rules.ok()) << each.text;
    EXPECT_EQ(rules.status().code(), Code::kInvalidArgument) << each.text;
    EXPECT_NE(std::string(rules.status().what()).find(each.words), std::string::npos)
        << each.text << ": " << rules.status().what();
    EXPECT_EQ(mistake.rule, each.rule) << each.text;
    EXPECT_EQ(mistake.part, each.part) << each.text;
    EXPECT_FALSE(Rules::Parse(each.text, nullptr).ok());
  }
}

TEST(Rules, TagsAndRulesHaveAMost) {
  const std::string longest(kMaxTag, 'x');
  EXPECT_EQ(Apply(Parsed("hint=hot,tag=" + longest), 5, longest).hint, Hint::kHot);
  EXPECT_FALSE(Rules::Parse("hint=hot,tag=" + longest + "x", nullptr).ok());
  std::string many = "hint=hot";
  for (size_t i = 1; i < Rules::kMost; ++i) many += ";hint=hot";
  const Rules most = Parsed(many);
  EXPECT_EQ(most.rules().size(), Rules::kMost);
  RulesMistake mistake;
  EXPECT_FALSE(Rules::Parse(many + ";hint=hot", &mistake).ok());
  EXPECT_EQ(mistake.rule, Rules::kMost + 1);
}

TEST(Rules, AMistakeQuotesTheBeginningOfALongPart) {
  const std::string part = "hint=" + std::string(100'000, 'x');
  RulesMistake mistake;
  const std::string text = part + ",min=1";
  EXPECT_FALSE(Rules::Parse(text, &mistake).ok());
  EXPECT_EQ(mistake.part, part.substr(0, RulesMistake::kMaxQuoted));
}

TEST(Rules, SizesEndWhereSizesEnd) {
  EXPECT_EQ(Parsed("min=9223372036854775807,hint=hot").Text(), "min=9223372036854775807,hint=hot");
  EXPECT_FALSE(Rules::Parse("min=9223372036854775808,hint=hot", nullptr).ok());
}

// Random texts of the form's own letters: whatever is taken comes back the same.
TEST(Rules, RandomTextIsRefusedOrComesBack) {
  const char* words[] = {"min=", "max=",     "tag=",     "policy=",   "hint=", "backend=managed",
                         "cold", "hot",      "balanced", ",",         ";",     "1",
                         "GiB",  "kv_cache", "=",        "cpu_first", "\x01"};
  std::mt19937 random(11);
  int taken = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string text;
    const size_t count = random() % 9;
    for (size_t k = 0; k < count; ++k) text += words[random() % std::size(words)];
    const Result<Rules> rules = Rules::Parse(text, nullptr);
    if (!rules.ok()) continue;
    taken += !rules->rules().empty();
    const Result<Rules> again = Rules::Parse(rules->Text(), nullptr);
    ASSERT_TRUE(again.ok()) << text;
    ASSERT_EQ(again->Text(), rules->Text()) << text;
  }
  EXPECT_GT(taken, 50);
}

TEST(Names, EveryNameComesBack) {
  for (const Policy policy : {Policy::kGpuFirst, Policy::kBalanced, Policy::kCpuFirst}) {
    EXPECT_EQ(ParsePolicy(PolicyName(policy)), policy);
  }
  for (const Hint hint : {Hint::kNone, Hint::kHot, Hint::kCold, Hint::kStream}) {
    EXPECT_EQ(ParseHint(HintName(hint)), hint);
  }
  for (const Backend backend : {Backend::kTiers, Backend::kManaged}) {
    EXPECT_EQ(ParseBackend(BackendName(backend)), backend);
  }
  EXPECT_FALSE(ParseBackend("uvm").has_value());
  EXPECT_FALSE(ParsePolicy("GPU_FIRST").has_value());
  EXPECT_FALSE(ParseHint("").has_value());
}

}  // namespace
}  // namespace gpuroom
