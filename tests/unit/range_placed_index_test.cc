#include <gtest/gtest.h>

#include <random>
#include <set>

#include "range/address_map.h"
#include "range/mover.h"

namespace gpuroom {
namespace {

class Backup : public Asleep {
 public:
  explicit Backup(uint64_t bytes) : bytes_(bytes) {}
  AsleepBytes Bytes() const override { return {bytes_, 0, 0}; }
  uint64_t BackupBytes() const override { return bytes_ / 2; }

 private:
  const uint64_t bytes_;
};

// Chunks of one GPU's range: `device_bytes` in HBM, then `host_bytes` on the host.
void Place(Placed* placed, uint64_t device_bytes, uint64_t host_bytes) {
  placed->chunks.clear();
  if (device_bytes > 0) placed->chunks.push_back({1, device_bytes, Tier::kDevice});
  if (host_bytes > 0) placed->chunks.push_back({2, host_bytes, Tier::kHost});
  placed->windows = {{kGranularity, 1, 0}};
  placed->CountTiers();
}

std::vector<Placed*> Listed(const PlacedIndex::Order& order) {
  std::vector<Placed*> list;
  for (const auto& [number, placed] : order) list.push_back(placed);
  return list;
}

class PlacedIndexTest : public testing::Test {
 protected:
  PlacedIndex::Totals totals_;
  PlacedIndex index_{totals_};
};

TEST_F(PlacedIndexTest, TheColdestAndOldestGivesWayFirst) {
  Placed old_data, young_data, small, cold, hot;
  for (Placed* placed : {&old_data, &young_data, &cold, &hot}) Place(placed, kDataBytes, 0);
  Place(&small, kGranularity, 0);
  cold.hint = Hint::kCold;
  hot.hint = Hint::kHot;
  for (Placed* placed : {&hot, &small, &young_data, &cold, &old_data}) index_.Update(placed);
  EXPECT_EQ(Listed(index_.givers()), (std::vector<Placed*>{&cold, &old_data, &young_data, &small}));
  EXPECT_EQ(index_.giving_bytes(), 3 * kDataBytes + kGranularity);
  EXPECT_EQ(Listed(index_.by_age()), (std::vector<Placed*>{&old_data, &young_data, &small, &cold, &hot}));
  for (Placed* placed : {&hot, &small, &young_data, &cold, &old_data}) index_.Remove(placed);
  EXPECT_EQ(index_.giving_bytes(), 0u);
  EXPECT_TRUE(index_.by_age().empty());
}

TEST_F(PlacedIndexTest, WhatGaveWayWantsBackAndNoLongerGives) {
  Placed placed;
  Place(&placed, 2 * kDataBytes, 0);
  index_.Update(&placed);
  EXPECT_FALSE(index_.may_have_returners());
  Place(&placed, 0, 2 * kDataBytes);
  index_.Update(&placed);
  EXPECT_TRUE(index_.may_have_returners());
  EXPECT_EQ(index_.giving_bytes(), 0u);
  EXPECT_TRUE(index_.givers().empty());
  EXPECT_EQ(Listed(index_.given()), std::vector<Placed*>{&placed});
  placed.pins = 1;
  index_.Update(&placed);
  EXPECT_TRUE(index_.returners().empty());
  EXPECT_TRUE(index_.given().empty());
  index_.Remove(&placed);
}

TEST_F(PlacedIndexTest, CountsWhatSleeps) {
  Placed placed;
  Place(&placed, kDataBytes, 0);
  index_.Update(&placed);
  placed.asleep = std::make_shared<Backup>(kDataBytes);
  placed.chunks.clear();
  placed.CountTiers();
  index_.Update(&placed);
  EXPECT_EQ(index_.asleep_bytes(), kDataBytes);
  EXPECT_EQ(index_.backup_bytes(), kDataBytes / 2);
  EXPECT_EQ(totals_.asleep.load(), 1u);
  EXPECT_EQ(index_.giving_bytes(), 0u);
  index_.Remove(&placed);
  EXPECT_EQ(totals_.asleep.load(), 0u);
}

// Of memory in pieces of one size the oldest 128 MiB count as workspaces, which give way last.
TEST_F(PlacedIndexTest, TheOldestPiecesAreWorkspacesAsLongAsTheyLive) {
  constexpr uint64_t kPiece = kDataBytes / 4;
  std::vector<Placed> pieces(12);
  for (Placed& piece : pieces) {
    piece.in_pieces = true;
    Place(&piece, kPiece, 0);
    index_.Update(&piece);
  }
  index_.TellWorkspaces();
  EXPECT_EQ(Listed(index_.givers()).front(), &pieces[8]);
  index_.Remove(&pieces[0]);
  index_.TellWorkspaces();
  EXPECT_EQ(Listed(index_.givers()).front(), &pieces[9]);
  EXPECT_FALSE(pieces[8].data);
  for (size_t i = 1; i < pieces.size(); ++i) index_.Remove(&pieces[i]);
}

TEST_F(PlacedIndexTest, ACopyIsInNoIndex) {
  Placed placed;
  Place(&placed, kDataBytes, 0);
  index_.Update(&placed);
  Placed copy = placed;
  EXPECT_FALSE(copy.indexed.entered);
  index_.Remove(&copy);
  EXPECT_EQ(Listed(index_.givers()), std::vector<Placed*>{&placed});
  index_.Remove(&placed);
}

// Whatever changes, the figures are those that a look at all of it would give.
TEST_F(PlacedIndexTest, AgreesWithALookAtAllOverRandomChanges) {
  std::mt19937_64 random(11);
  std::vector<std::unique_ptr<Placed>> live;
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t dice = random() % 8;
    if (live.size() < 20 || dice == 0) {
      live.push_back(std::make_unique<Placed>());
      live.back()->in_pieces = random() % 2 == 0;
      Place(live.back().get(), (1 + random() % 40) * kGranularity, 0);
      index_.Update(live.back().get());
      continue;
    }
    std::swap(live[random() % live.size()], live.back());
    Placed* placed = live.back().get();
    if (dice == 1) {
      index_.Remove(placed);
      live.pop_back();
    } else {
      if (dice == 2) placed->pins ^= 1;
      if (dice == 3) placed->hint = static_cast<Hint>(random() % 4);
      if (dice == 4) placed->wants_device = !placed->wants_device;
      if (dice == 5) placed->windows[0].writers ^= 1;
      if (dice >= 6) {
        placed->chunks.clear();
        Place(placed, random() % 3 * kDataBytes, (1 + random() % 2) * kGranularity);
      }
      index_.Update(placed);
    }
    if (i % 16 == 0) index_.TellWorkspaces();
    uint64_t giving = 0;
    std::set<Placed*> givers, returners;
    for (const auto& each : live) {
      const uint64_t in_hbm = BytesIn(Tier::kDevice, *each);
      if (MayGiveWay(*each) && in_hbm > 0) givers.insert(each.get());
      if (MayGiveWay(*each)) giving += in_hbm;
      if (each->wants_device && Movable(*each) && in_hbm < BytesOf(*each)) returners.insert(each.get());
    }
    ASSERT_EQ(index_.giving_bytes(), giving);
    ASSERT_EQ(index_.by_age().size(), live.size());
    const std::vector<Placed*> listed = Listed(index_.givers());
    const std::vector<Placed*> back = Listed(index_.returners());
    ASSERT_EQ(std::set<Placed*>(listed.begin(), listed.end()), givers);
    ASSERT_EQ(std::set<Placed*>(back.begin(), back.end()), returners);
    ASSERT_TRUE(returners.empty() || index_.may_have_returners());
  }
  for (const auto& each : live) index_.Remove(each.get());
  EXPECT_EQ(index_.giving_bytes(), 0u);
}

}  // namespace
}  // namespace gpuroom
