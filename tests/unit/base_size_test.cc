#include <gtest/gtest.h>

#include <string>

#include "base/size.h"

namespace gpuroom {
namespace {

constexpr uint64_t kLargest = 9223372036854775807u;  // 2^63 - 1

uint64_t Parsed(const char* text) {
  const Result<uint64_t> size = ParseSize(text);
  EXPECT_TRUE(size.ok()) << '"' << text << "\": " << size.status().what();
  return size.ok() ? *size : ~uint64_t{0};
}

std::string Refusal(const std::string& text) {
  const Result<uint64_t> size = ParseSize(text);
  if (size.ok()) {
    ADD_FAILURE() << '"' << text << "\" was taken for " << *size << " bytes";
    return "";
  }
  EXPECT_EQ(size.status().code(), Code::kInvalidArgument) << text;
  return size.status().what();
}

TEST(ParseSize, TakesPlainBytes) {
  EXPECT_EQ(Parsed("0"), 0u);
  EXPECT_EQ(Parsed("1"), 1u);
  EXPECT_EQ(Parsed("1048576"), kMiB);
  EXPECT_EQ(Parsed("0007"), 7u);
}

TEST(ParseSize, TakesEveryUnitInAnyCase) {
  for (const char* text : {"3k", "3K", "3kb", "3KB", "3KiB", "3kIb"}) EXPECT_EQ(Parsed(text), 3 * kKiB);
  for (const char* text : {"3m", "3MB", "3MiB"}) EXPECT_EQ(Parsed(text), 3 * kMiB);
  for (const char* text : {"3G", "3gb", "3GiB"}) EXPECT_EQ(Parsed(text), 3 * kGiB);
  for (const char* text : {"3t", "3TB", "3TiB"}) EXPECT_EQ(Parsed(text), 3072 * kGiB);
  for (const char* text : {"3b", "3B"}) EXPECT_EQ(Parsed(text), 3u);
}

TEST(ParseSize, TakesASpaceBeforeTheUnit) {
  EXPECT_EQ(Parsed("6 GiB"), 6 * kGiB);
  EXPECT_EQ(Parsed("6  G"), 6 * kGiB);
}

TEST(ParseSize, TakesFractionsAndDropsPartsOfAByte) {
  EXPECT_EQ(Parsed("1.5g"), kGiB + kGiB / 2);
  EXPECT_EQ(Parsed("0.5KiB"), 512u);
  EXPECT_EQ(Parsed("0.1B"), 0u);
  EXPECT_EQ(Parsed("1.9"), 1u);
}

TEST(ParseSize, KeepsEveryBitOfTheLargestSize) {
  EXPECT_EQ(Parsed("9223372036854775807"), kLargest);
  EXPECT_EQ(Parsed("9223372036854775806"), kLargest - 1);
  EXPECT_EQ(Parsed("9007199254740993"), 9007199254740993u);  // 2^53 + 1: lost by a double
  EXPECT_EQ(Parsed("8388607TiB"), uint64_t{8388607} << 40);
  EXPECT_EQ(Parsed("8388607.5TiB"), (uint64_t{8388607} << 40) + (uint64_t{1} << 39));
  EXPECT_EQ(Parsed("9223372036854775806.9"), kLargest - 1);  // rounded up by a long double
  EXPECT_EQ(Parsed("1.0000000000000001TiB"), kGiB << 10);
  EXPECT_EQ(Parsed("1.000000000001TiB"), (kGiB << 10) + 1);
  EXPECT_EQ(Parsed("0.1TiB"), 109951162777u);
}

TEST(ParseSize, RefusesWhatDoesNotFit) {
  for (const char* text : {"9223372036854775808", "18446744073709551616", "8388608TiB", "8589934592GiB",
                           "99999999999999999999999999", "8388608.0TiB"}) {
    EXPECT_NE(Refusal(text).find("too large"), std::string::npos) << text;
  }
  EXPECT_NE(Refusal(std::string(6000, '9')).find("too large"), std::string::npos);
}

TEST(ParseSize, RefusesWhatIsNoSize) {
  for (const char* text :
       {"",    " ",    "GiB", "-1",  "-1GiB", "+1",  " 1",    ".5G",   "1,5G", "1.2.3G", "1..2",
        "1e3", "0x10", "nan", "inf", "6GiBs", "6Gi", "6GiB ", "6 G B", "6PiB", "auto",   "1\n"}) {
    EXPECT_NE(Refusal(text).find("6GiB"), std::string::npos) << text;  // the sentence shows an example
  }
}

TEST(ParseSize, ReadsNoFurtherThanItsView) {
  const std::string text = "12GiB and more";
  const Result<uint64_t> size = ParseSize(std::string_view(text).substr(0, 3));
  ASSERT_TRUE(size.ok());
  EXPECT_EQ(*size, 12 * kGiB);
}

TEST(FormatSize, ShowsAtMostFourDigits) {
  EXPECT_EQ(FormatSize(0), "0 B");
  EXPECT_EQ(FormatSize(17), "17 B");
  EXPECT_EQ(FormatSize(1023), "1023 B");
  EXPECT_EQ(FormatSize(kKiB), "1.0 KiB");
  EXPECT_EQ(FormatSize(512 * kKiB), "512 KiB");
  EXPECT_EQ(FormatSize(14 * kGiB), "14.0 GiB");
  EXPECT_EQ(FormatSize(kGiB * 1024), "1.0 TiB");
  EXPECT_EQ(FormatSize(~uint64_t{0}), "16.0 EiB");
}

TEST(Rounding, MeetsTheUnit) {
  EXPECT_EQ(RoundUp(0, kMiB), 0u);
  EXPECT_EQ(RoundUp(1, 2 * kMiB), 2 * kMiB);
  EXPECT_EQ(RoundUp(2 * kMiB, 2 * kMiB), 2 * kMiB);
  EXPECT_EQ(RoundUp(2 * kMiB + 1, 2 * kMiB), 4 * kMiB);
  EXPECT_EQ(RoundDown(4 * kMiB - 1, 2 * kMiB), 2 * kMiB);
  EXPECT_TRUE(IsMultiple(6 * kMiB, 2 * kMiB));
  EXPECT_FALSE(IsMultiple(6 * kMiB + 1, 2 * kMiB));
}

}  // namespace
}  // namespace gpuroom
