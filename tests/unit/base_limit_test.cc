#include <gtest/gtest.h>

#include "base/limit.h"
#include "base/size.h"

namespace gpuroom {
namespace {

TEST(LimitTest, IsASizeOrAPart) {
  EXPECT_EQ(ParseLimit("6GiB")->Of(80 * kGiB), 6 * kGiB);
  EXPECT_EQ(ParseLimit("6GiB")->Of(4 * kGiB), 4 * kGiB);
  EXPECT_EQ(ParseLimit("50%")->Of(80 * kGiB), 40 * kGiB);
  EXPECT_EQ(ParseLimit("33%")->Of(1000), 330u);
  EXPECT_EQ(ParseLimit("100%")->Of(12345), 12345u);
  EXPECT_EQ(ParseLimit("1%")->Of(99), 0u);
  EXPECT_EQ(ParseLimit("100%")->Of(UINT64_MAX), UINT64_MAX);
  EXPECT_EQ(Limit().Of(kGiB), kGiB);
  EXPECT_FALSE(Limit().limited());
  EXPECT_TRUE(ParseLimit("100%")->limited());
}

TEST(LimitTest, IsWrittenAsItIsRead) {
  for (const char* text : {"50%", "1%", "100%", "6442450944"})
    EXPECT_EQ(FormatLimit(*ParseLimit(text)), text);
}

TEST(LimitTest, RefusesWhatIsNeither) {
  for (const char* text :
       {"", "%", "0%", "101%", "-5%", "5.5%", "50 %", "50%%", "0x10%", "+5%", "99999999999%", "half"}) {
    EXPECT_EQ(ParseLimit(text).status().code(), Code::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace gpuroom
