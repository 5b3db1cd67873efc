// The order of turns, against one that looks at every tier at every step.
#include <gtest/gtest.h>

#include <random>

#include "range/interleave.h"

namespace gpuroom {
namespace {

// Whose turn each granule is: of those that are owed at least 1/(2n-2) granule, the one that would soonest be
// owed more than 1 - 1/(2n-2); of those alike the first.
std::vector<int> TurnsByLookingAtAll(const std::vector<int64_t>& shares) {
  const auto scale = static_cast<int64_t>(2 * shares.size() - 2);
  int64_t total = 0;
  for (const int64_t share : shares) total += share;
  std::vector<int64_t> owed(shares.size());
  std::vector<int> turns;
  for (int64_t step = 0; step < total; ++step) {
    size_t best = shares.size();
    for (size_t i = 0; i < shares.size(); ++i) {
      owed[i] += shares[i];
      if (scale * owed[i] < total) continue;
      const auto left = [&](size_t at) { return (scale - 1) * total - scale * owed[at]; };
      if (best == shares.size() || left(i) * shares[best] < left(best) * shares[i]) best = i;
    }
    owed[best] -= total;
    turns.push_back(static_cast<int>(best));
  }
  return turns;
}

std::vector<int> Turns(const std::vector<int64_t>& shares) {
  std::vector<TierState> tiers(shares.size());
  std::vector<Share> list;
  for (size_t i = 0; i < shares.size(); ++i) {
    tiers[i].place = static_cast<int>(i);
    list.push_back({&tiers[i], static_cast<uint64_t>(shares[i])});
  }
  std::vector<Piece> pieces;
  Interleave(list.data(), list.size(), &pieces);
  std::vector<int> turns;
  for (const Piece& piece : pieces) turns.insert(turns.end(), piece.bytes / kGranularity, piece.place);
  return turns;
}

TEST(Interleave, GivesEveryGranuleToTheTierWhoseTurnItIs) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 400; ++i) {
    std::vector<int64_t> shares(2 + random() % (i % 10 == 0 ? 79 : 5));
    for (int64_t& share : shares) share = static_cast<int64_t>(1 + random() % (random() % 2 == 0 ? 4 : 200));
    ASSERT_EQ(Turns(shares), TurnsByLookingAtAll(shares)) << i;
  }
}

}  // namespace
}  // namespace gpuroom
