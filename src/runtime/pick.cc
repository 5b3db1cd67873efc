#include "runtime/pick.h"

#include <algorithm>

namespace headroom {
namespace {

int Warmth(const Placed& placed) {
  switch (placed.hint) {
    case Hint::kCold: return 0;
    case Hint::kStream: return 1;
    case Hint::kNone: return 2;
    case Hint::kHot: return 3;
  }
  return 3;
}

// Below this, memory is rather a library's workspace than data.
constexpr uint64_t kData = 64 * kMiB;

// The coldest first; of those alike data before workspaces, and the oldest first.
bool Colder(const Placed* a, const Placed* b) {
  if (Warmth(*a) != Warmth(*b)) return Warmth(*a) < Warmth(*b);
  if (a->data != b->data) return a->data;
  return a->order < b->order;
}

// Tells data from workspaces. Of memory that comes in pieces of one size (expandable
// segments) size says nothing; there what is made first and still lives is often
// a workspace, so that much of it counts as one.
void TellData(const std::vector<Placed*>& by_age) {
  constexpr uint64_t kWorkspaces = 2 * kData;
  uint64_t pieces = 0;
  for (Placed* placed : by_age) {
    const uint64_t bytes = BytesOf(placed->chunks);
    placed->data = bytes >= kData;
    if (placed->data || !placed->in_pieces) continue;
    pieces += bytes;
    placed->data = pieces > kWorkspaces;
  }
}

// Room in the other tiers, the fastest first.
class Elsewhere {
 public:
  Elsewhere(const ChunkSource& source, bool with_peers) : states_(source.States()) {
    states_.erase(states_.begin());
    std::erase_if(states_, [=](const TierState& state) { return state.tier == Tier::kPeer && !with_peers; });
  }

  // A tier that has room for `bytes`; null if none has.
  TierState* For(uint64_t bytes) {
    for (TierState& state : states_) {
      if (state.free >= bytes) return &state;
    }
    return nullptr;
  }

 private:
  std::vector<TierState> states_;
};

// Adds a chunk to what moves: to the last part, if that ends there and goes to the same place, since what is
// adjacent moves as one.
void AddChunk(Placed* placed, size_t index, Tier tier, int place, std::vector<Part>* parts) {
  if (!parts->empty()) {
    Part& last = parts->back();
    if (last.placed == placed && last.end == index && last.tier == tier && last.place == place) {
      ++last.end;
      return;
    }
  }
  parts->push_back({placed, index, index + 1, tier, place, 0, Status()});
}

}  // namespace

bool MayGiveWay(const Placed& placed) { return placed.hint != Hint::kHot && Movable(placed); }

std::vector<Part> PickVictims(const std::vector<Placed*>& all, const ChunkSource& source, uint64_t bytes,
                              bool with_peers) {
  std::vector<Placed*> victims;
  std::copy_if(all.begin(), all.end(), std::back_inserter(victims),
               [](const Placed* placed) { return MayGiveWay(*placed); });
  std::sort(victims.begin(), victims.end(),
            [](const Placed* a, const Placed* b) { return a->order < b->order; });
  TellData(victims);
  std::sort(victims.begin(), victims.end(), Colder);
  Elsewhere elsewhere(source, with_peers);
  std::vector<Part> parts;
  uint64_t picked = 0;
  for (Placed* victim : victims) {
    for (size_t i = 0; i < victim->chunks.size() && picked < bytes; ++i) {
      const Chunk& chunk = victim->chunks[i];
      if (chunk.tier != Tier::kDevice) continue;
      TierState* to = elsewhere.For(chunk.bytes);
      if (to == nullptr) continue;
      to->free -= chunk.bytes;
      picked += chunk.bytes;
      AddChunk(victim, i, to->tier, to->place, &parts);
    }
  }
  return parts;
}

std::vector<Part> PickReturns(const std::vector<Placed*>& all, uint64_t bytes, uint64_t slice) {
  std::vector<Placed*> away;
  std::copy_if(all.begin(), all.end(), std::back_inserter(away), [](const Placed* placed) {
    return placed->wants_device && Movable(*placed) &&
           BytesIn(Tier::kDevice, *placed) < BytesOf(placed->chunks);
  });
  std::sort(away.begin(), away.end(), [](const Placed* a, const Placed* b) { return Colder(b, a); });
  std::vector<Part> parts;
  for (Placed* placed : away) {
    for (size_t i = 0; i < placed->chunks.size(); ++i) {
      const Chunk& chunk = placed->chunks[i];
      if (chunk.tier == Tier::kDevice) continue;
      if (chunk.bytes > bytes || slice == 0) return parts;
      bytes -= chunk.bytes;
      slice -= std::min(slice, chunk.bytes);
      AddChunk(placed, i, Tier::kDevice, placed->device, &parts);
    }
  }
  return parts;
}

}  // namespace headroom
