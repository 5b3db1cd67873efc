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

// What is picked or left: a chunk, or all chunks of what moves whole.
struct Unit {
  Placed* placed;
  size_t first;
  size_t end;
  uint64_t bytes;
  Tier tier;
};

Unit UnitAt(Placed* placed, size_t first) {
  const std::vector<Chunk>& chunks = placed->chunks;
  const Tier tier = chunks[first].tier;
  if (first == 0 && MovesWhole(*placed)) return {placed, 0, chunks.size(), BytesOf(chunks), tier};
  return {placed, first, first + 1, chunks[first].bytes, tier};
}

// Adds a unit to what moves: to the last part, if that ends there and goes to the same place, since what is
// adjacent moves as one.
void Add(const Unit& unit, Tier tier, int place, std::vector<Part>* parts) {
  if (!parts->empty()) {
    Part& last = parts->back();
    if (last.placed == unit.placed && last.end == unit.first && last.tier == tier && last.place == place) {
      last.end = unit.end;
      return;
    }
  }
  parts->push_back({unit.placed, unit.first, unit.end, tier, place, 0, Status()});
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
    for (size_t next = 0; next < victim->chunks.size() && picked < bytes;) {
      const Unit unit = UnitAt(victim, next);
      next = unit.end;
      TierState* to = unit.tier == Tier::kDevice ? elsewhere.For(unit.bytes) : nullptr;
      if (to == nullptr) continue;
      to->free -= unit.bytes;
      picked += unit.bytes;
      Add(unit, to->tier, to->place, &parts);
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
    for (size_t next = 0; next < placed->chunks.size();) {
      const Unit unit = UnitAt(placed, next);
      next = unit.end;
      if (unit.tier == Tier::kDevice) continue;
      if (unit.bytes > bytes || slice == 0) return parts;
      bytes -= unit.bytes;
      slice -= std::min(slice, unit.bytes);
      Add(unit, Tier::kDevice, placed->device, &parts);
    }
  }
  return parts;
}

}  // namespace headroom
