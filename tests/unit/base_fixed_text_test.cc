// Text in memory of the caller's: what has no room is left out, and nothing beyond is written.
#include <gtest/gtest.h>

#include "base/fixed_text.h"

namespace gpuroom {
namespace {

TEST(FixedTextTest, PiecesFollowOneAnother) {
  char place[32];
  FixedText text(place, sizeof place);
  EXPECT_EQ(text.view(), "");
  text.Append("%d and ", 1);
  text.Append("%s", "two");
  EXPECT_EQ(text.view(), "1 and two");
  EXPECT_STREQ(place, "1 and two");
}

TEST(FixedTextTest, WhatHasNoRoomIsLeftOut) {
  char place[9] = {};
  place[8] = '!';
  FixedText text(place, 8);
  text.Append("12345");
  text.Append("%s", "67890");
  text.Append("more");
  EXPECT_EQ(text.view(), "1234567");
  EXPECT_EQ(place[7], '\0');
  EXPECT_EQ(place[8], '!') << "the byte behind it";
}

}  // namespace
}  // namespace gpuroom
