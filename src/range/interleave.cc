#include "range/interleave.h"

#include <algorithm>

namespace gpuroom {
namespace {

__extension__ typedef __int128 SignedWide;

// One tier's turn-taking, in units of 1/total granule.
struct Turn {
  int64_t share = 0;  // granules; also what it is owed more after each step
  int64_t owed = 0;   // its exact part so far less what it got; within (-total, total)
};

Piece PieceOf(const Share& share, uint64_t granules) {
  return {share.tier->tier, share.tier->place, granules * kGranularity};
}

// Whose turn it is after every `owed` grew: of those that are owed at least
// 1/(2n-2) granule, the one that would soonest be owed more than 1 - 1/(2n-2).
size_t Next(const std::vector<Turn>& turns, int64_t total) {
  const auto scale = static_cast<int64_t>(2 * turns.size() - 2);
  size_t best = turns.size();
  int64_t best_left = 0;
  for (size_t i = 0; i < turns.size(); ++i) {
    const int64_t owed = scale * turns[i].owed;
    if (owed < total) continue;
    const int64_t left = (scale - 1) * total - owed;
    // left / share < best_left / best share
    if (best == turns.size() ||
        SignedWide{left} * turns[best].share < SignedWide{best_left} * turns[i].share) {
      best = i;
      best_left = left;
    }
  }
  return best;
}

// No more pieces than this: two for each granule outside the largest share, and one.
uint64_t MostPieces(const std::vector<Turn>& turns, int64_t total) {
  int64_t largest = 0;
  for (const Turn& turn : turns) largest = std::max(largest, turn.share);
  return static_cast<uint64_t>(std::min(total, 2 * (total - largest) + 1));
}

}  // namespace

void Interleave(const Share* shares, size_t count, std::vector<Piece>* pieces) {
  if (count == 1) {
    pieces->push_back(PieceOf(shares[0], shares[0].granules));
    return;
  }
  std::vector<Turn> turns(count);
  int64_t total = 0;
  for (size_t i = 0; i < count; ++i) {
    turns[i].share = static_cast<int64_t>(shares[i].granules);
    total += turns[i].share;
  }
  pieces->reserve(pieces->size() + MostPieces(turns, total));
  size_t last = count;
  for (int64_t step = 0; step < total; ++step) {
    for (Turn& turn : turns) turn.owed += turn.share;
    const size_t next = Next(turns, total);
    turns[next].owed -= total;
    if (next == last) {
      pieces->back().bytes += kGranularity;
    } else {
      pieces->push_back(PieceOf(shares[next], 1));
    }
    last = next;
  }
}

}  // namespace gpuroom
