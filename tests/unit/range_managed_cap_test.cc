// The cap on managed memory: which bound it is, on which machine, and how it is said.
#include <gtest/gtest.h>

#include "range/managed_cap.h"

namespace gpuroom {
namespace {

constexpr ManagedMachine kPcie{100 * kGiB, 300 * kGiB, false};
constexpr ManagedMachine kCoherent{100 * kGiB, 1000 * kGiB, true};

ManagedOptions Ratio(double ratio, bool allow = false) { return {2 * kGiB, ratio, allow}; }

void Expect(const ManagedCap& cap, uint64_t bytes, ManagedCap::Bound bound, bool only_free) {
  EXPECT_EQ(cap.bytes, bytes);
  EXPECT_EQ(cap.bound, bound);
  EXPECT_EQ(cap.only_free, only_free);
}

TEST(ManagedCap, ACoherentMachineHasTheRatio) {
  Expect(CapOf({}, kCoherent), 500 * kGiB, ManagedCap::Bound::kRatio, false);
  Expect(CapOf(Ratio(1.5), kCoherent), 150 * kGiB, ManagedCap::Bound::kRatio, false);
  Expect(CapOf(Ratio(0.5), kCoherent), 50 * kGiB, ManagedCap::Bound::kRatio, false);
}

TEST(ManagedCap, OthersHaveWhatTheDeviceHasFree) {
  Expect(CapOf({}, kPcie), 100 * kGiB, ManagedCap::Bound::kDevice, true);
  Expect(CapOf(Ratio(1.0), kPcie), 100 * kGiB, ManagedCap::Bound::kRatio, true);
  Expect(CapOf(Ratio(0.5), kPcie), 50 * kGiB, ManagedCap::Bound::kRatio, true);
}

TEST(ManagedCap, UnlessOversubscriptionIsAllowed) {
  Expect(CapOf(Ratio(3.0, true), kPcie), 300 * kGiB, ManagedCap::Bound::kRatio, false);
}

TEST(ManagedCap, NeverMoreThanHbmAndHost) {
  Expect(CapOf(Ratio(5.0, true), kPcie), 400 * kGiB, ManagedCap::Bound::kHost, false);
  Expect(CapOf(Ratio(50.0), kCoherent), 1100 * kGiB, ManagedCap::Bound::kHost, false);
  Expect(CapOf({}, {100 * kGiB, 0, true}), 100 * kGiB, ManagedCap::Bound::kHost, false);
}

TEST(ManagedCap, IsInWholeGranulesAndDoesNotWrap) {
  EXPECT_EQ(CapOf(Ratio(1.0), {5 * kMiB, kGiB, true}).bytes, 4 * kMiB);
  EXPECT_EQ(CapOf(Ratio(100), {UINT64_MAX / 2, UINT64_MAX, true}).bytes, uint64_t{1} << 63);
  EXPECT_EQ(CapOf({}, {}).bytes, 0u);
}

TEST(ManagedCap, EveryBoundNamesTheOptionThatChangesIt) {
  const auto has = [](ManagedCap::Bound bound, const char* words) {
    const std::string text = WhyBound(bound, Ratio(2.5));
    return text.find(words) != std::string::npos;
  };
  EXPECT_TRUE(has(ManagedCap::Bound::kRatio, "2.5 times the HBM; --oversubscription-ratio"));
  EXPECT_TRUE(has(ManagedCap::Bound::kHost, "raise --host-limit"));
  EXPECT_TRUE(has(ManagedCap::Bound::kDevice, "page faults and can hang the card; --allow-oversubscription"));
}

TEST(ManagedCap, RatiosAreNumbersFromATenthToAHundred) {
  for (const auto& [text, value] :
       {std::pair<const char*, double>{"5.0", 5}, {"1.5", 1.5}, {"0.1", 0.1}, {"100", 100}}) {
    const Result<double> ratio = ParseRatio(text);
    ASSERT_TRUE(ratio.ok()) << text;
    EXPECT_EQ(*ratio, value);
  }
  for (const char* text :
       {"", "x", "5x", " 5", "5 ", "-1", "0", "0.09", "101", "1e1", "nan", "inf", "5,0", "0x5"}) {
    EXPECT_EQ(ParseRatio(text).status().code(), Code::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace gpuroom
