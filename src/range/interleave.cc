#include "range/interleave.h"

#include <algorithm>
#include <utility>

namespace gpuroom {
namespace {

__extension__ typedef __int128 SignedWide;

// One tier's turn-taking. Of n tiers its turn k (from 0) may come as soon as it is owed 1/(2n-2) granule for
// it, and has to come before it would be owed more than 1 - 1/(2n-2). Both instants are fractions of the
// whole with its share as denominator.
struct Turn {
  int64_t share = 0;  // granules
  size_t index = 0;
  int64_t first = 0;  // numerator of the instant from which on it may come
  int64_t last = 0;   // and of that before which it has to come
};

bool Earlier(int64_t time, const Turn& a, int64_t other_time, const Turn& b) {
  const SignedWide mine = SignedWide{time} * b.share;
  const SignedWide theirs = SignedWide{other_time} * a.share;
  return mine != theirs ? mine < theirs : a.index < b.index;
}

// For heaps, whose front is the largest.
bool MayComeLater(const Turn& a, const Turn& b) { return Earlier(b.first, b, a.first, a); }
bool HasToComeLater(const Turn& a, const Turn& b) { return Earlier(b.last, b, a.last, a); }

Piece PieceOf(const Share& share, uint64_t granules) {
  return {share.tier->tier, share.tier->place, granules * kGranularity};
}

// The tiers by the instants of their next turns: each step takes no longer than the logarithm of their
// number.
class Turns {
 public:
  explicit Turns(std::vector<Turn> turns)
      : scale_(static_cast<int64_t>(2 * turns.size() - 2)), waiting_(std::move(turns)) {
    for (Turn& turn : waiting_) {
      turn.first = 1;
      turn.last = scale_ - 1;
    }
    std::make_heap(waiting_.begin(), waiting_.end(), MayComeLater);
    due_.reserve(waiting_.size());
  }

  // Whose turn is step `step` (from 1) of `total`: of those whose turn may come, the one whose has to come
  // first.
  size_t Next(int64_t step, int64_t total) {
    while (!waiting_.empty() && MayCome(waiting_.front(), step, total)) {
      std::pop_heap(waiting_.begin(), waiting_.end(), MayComeLater);
      due_.push_back(waiting_.back());
      waiting_.pop_back();
      std::push_heap(due_.begin(), due_.end(), HasToComeLater);
    }
    std::pop_heap(due_.begin(), due_.end(), HasToComeLater);
    Turn turn = due_.back();
    due_.pop_back();
    turn.first += scale_;
    turn.last += scale_;
    waiting_.push_back(turn);
    std::push_heap(waiting_.begin(), waiting_.end(), MayComeLater);
    return turn.index;
  }

 private:
  bool MayCome(const Turn& turn, int64_t step, int64_t total) const {
    return SignedWide{turn.first} * total <= SignedWide{scale_} * step * turn.share;
  }

  const int64_t scale_;
  std::vector<Turn> waiting_;  // a heap by `first`
  std::vector<Turn> due_;      // a heap by `last`
};

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
    turns[i].index = i;
    total += turns[i].share;
  }
  pieces->reserve(pieces->size() + MostPieces(turns, total));
  Turns order(std::move(turns));
  size_t last = count;
  for (int64_t step = 1; step <= total; ++step) {
    const size_t next = order.Next(step, total);
    if (next == last) {
      pieces->back().bytes += kGranularity;
    } else {
      pieces->push_back(PieceOf(shares[next], 1));
    }
    last = next;
  }
}

}  // namespace gpuroom
