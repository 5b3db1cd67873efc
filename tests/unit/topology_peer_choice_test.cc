#include <gtest/gtest.h>

#include "base/size.h"
#include "topology/peer_choice.h"

namespace gpuroom {
namespace {

TEST(PeerChoice, ReadsEveryForm) {
  EXPECT_EQ(ParsePeerChoice("none")->kind, PeerChoice::Kind::kNone);
  EXPECT_EQ(ParsePeerChoice("auto")->kind, PeerChoice::Kind::kAuto);
  const Result<PeerChoice> list = ParsePeerChoice("1:20GiB,2");
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(list->kind, PeerChoice::Kind::kList);
  ASSERT_EQ(list->list.size(), 2u);
  EXPECT_EQ(list->list[0].ordinal, 1);
  EXPECT_EQ(list->list[0].bytes, 20 * kGiB);
  EXPECT_EQ(list->list[1].ordinal, 2);
  EXPECT_EQ(list->list[1].bytes, 0u);
}

TEST(PeerChoice, ItsTextReadsBack) {
  for (const char* text : {"none", "auto", "0", "1:21474836480,2", "63,0:2097152,5"}) {
    const Result<PeerChoice> choice = ParsePeerChoice(text);
    ASSERT_TRUE(choice.ok()) << text;
    EXPECT_EQ(FormatPeerChoice(*choice), text);
  }
}

TEST(PeerChoice, MistakesSayWhatToWrite) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "not a list"},       {"all", "not a list"},        {"1,", "not a list"},
      {",1", "not a list"},     {"-1", "not a list"},         {"64", "not a list"},
      {"1 ,2", "not a list"},   {"auto,1", "not a list"},     {"GPU1", "not a list"},
      {"1:", "without a size"}, {"1:lots", "without a size"}, {"1:1GiB:2", "without a size"},
      {"1:20", "add a unit"},   {"1:0", "add a unit"},        {"1,2,1:4GiB", "twice"},
  };
  for (const auto& [text, words] : cases) {
    const Result<PeerChoice> choice = ParsePeerChoice(text);
    ASSERT_FALSE(choice.ok()) << text;
    EXPECT_EQ(choice.status().code(), Code::kInvalidArgument);
    EXPECT_NE(std::string(choice.status().what()).find(words), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace gpuroom
