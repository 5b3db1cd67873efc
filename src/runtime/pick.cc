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
  constexpr uint64_t kWorkspaces = 2 * kDataBytes;
  uint64_t pieces = 0;
  for (Placed* placed : by_age) {
    const uint64_t bytes = BytesOf(placed->chunks);
    placed->data = bytes >= kDataBytes;
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

// One of those that give way evenly.
struct Giver {
  Placed* placed;
  uint64_t bytes;
  uint64_t away;             // of them, those outside HBM and those picked
  uint64_t turn;             // among those of which as much is away: neighbours in age are far apart
  std::vector<bool> picked;  // by chunk; empty: none yet

  explicit Giver(Placed* giver)
      : placed(giver),
        bytes(BytesOf(giver->chunks)),
        away(bytes - BytesIn(Tier::kDevice, *giver)),
        turn(giver->order * 0x9E3779B97F4A7C15u) {}

  // For a heap whose front is to give next.
  bool operator<(const Giver& other) const {
    const double mine = static_cast<double>(away) / static_cast<double>(bytes);
    const double theirs = static_cast<double>(other.away) / static_cast<double>(other.bytes);
    return mine != theirs ? mine > theirs : turn > other.turn;
  }

  bool Stays(size_t i) const {
    return placed->chunks[i].tier == Tier::kDevice && (picked.empty() || !picked[i]);
  }
  // The chunk in the middle of the longest row that stays; the end if none does.
  size_t Next() const {
    size_t best = placed->chunks.size();
    size_t longest = 0;
    for (size_t first = 0; first < placed->chunks.size(); ++first) {
      size_t end = first;
      while (end < placed->chunks.size() && Stays(end)) ++end;
      if (end - first > longest) {
        longest = end - first;
        best = first + longest / 2;
      }
      first = end;
    }
    return best;
  }
  void Take(const Unit& unit) {
    picked.resize(placed->chunks.size());
    std::fill(picked.begin() + static_cast<ptrdiff_t>(unit.first),
              picked.begin() + static_cast<ptrdiff_t>(unit.end), true);
    away += unit.bytes;
  }
};

// Picks units until they make up `bytes`.
class Picker {
 public:
  Picker(Elsewhere elsewhere, uint64_t bytes) : elsewhere_(std::move(elsewhere)), missing_(bytes) {}

  // All of one after the other.
  void InTurn(const std::vector<Placed*>& givers) {
    for (Placed* giver : givers) {
      for (size_t next = 0; next < giver->chunks.size() && missing_ > 0;) {
        const Unit unit = UnitAt(giver, next);
        next = unit.end;
        if (unit.tier == Tier::kDevice) Pick(unit);
      }
    }
  }

  // One unit after the other, of whatever has most left in HBM.
  void Evenly(const std::vector<Placed*>& placed) {
    std::vector<Giver> heap(placed.begin(), placed.end());
    std::make_heap(heap.begin(), heap.end());
    const size_t before = picks_.size();
    while (!heap.empty() && missing_ > 0) {
      std::pop_heap(heap.begin(), heap.end());
      Giver& giver = heap.back();
      const size_t next = giver.Next();
      if (next == giver.placed->chunks.size()) {
        heap.pop_back();
        continue;
      }
      const Unit unit = UnitAt(giver.placed, MovesWhole(*giver.placed) ? 0 : next);
      Pick(unit);
      giver.Take(unit);
      std::push_heap(heap.begin(), heap.end());
    }
    std::sort(picks_.begin() + static_cast<ptrdiff_t>(before), picks_.end(),
              [](const Picked& a, const Picked& b) {
                return a.unit.placed != b.unit.placed ? a.unit.placed->order < b.unit.placed->order
                                                      : a.unit.first < b.unit.first;
              });
  }

  std::vector<Part> Parts() const {
    std::vector<Part> parts;
    for (const Picked& pick : picks_) Add(pick.unit, pick.tier, pick.place, &parts);
    return parts;
  }

 private:
  struct Picked {
    Unit unit;
    Tier tier;  // where to
    int place;
  };

  void Pick(const Unit& unit) {
    TierState* to = elsewhere_.For(unit.bytes);
    if (to == nullptr) return;
    to->free -= unit.bytes;
    missing_ -= std::min(missing_, unit.bytes);
    picks_.push_back({unit, to->tier, to->place});
  }

  Elsewhere elsewhere_;
  uint64_t missing_;
  std::vector<Picked> picks_;
};

// The span of those that give way evenly: data without a hint, but for its youngest eighth.
struct Alike {
  std::vector<Placed*>::const_iterator first;
  std::vector<Placed*>::const_iterator end;
};

Alike FindAlike(const std::vector<Placed*>& coldest_first) {
  const auto alike = [](const Placed* placed) { return placed->hint == Hint::kNone && placed->data; };
  const auto first = std::find_if(coldest_first.begin(), coldest_first.end(), alike);
  auto end = std::find_if_not(first, coldest_first.end(), alike);
  uint64_t bytes = 0;
  for (auto at = first; at != end; ++at) bytes += BytesOf((*at)->chunks);
  for (uint64_t young = 0; end != first && young < bytes / 8;) young += BytesOf((*--end)->chunks);
  return {first, end};
}

}  // namespace

bool MayGiveWay(const Placed& placed) { return placed.hint != Hint::kHot && Movable(placed); }

std::vector<Part> PickVictims(const std::vector<Placed*>& all, const ChunkSource& source, uint64_t bytes,
                              bool with_peers, Yield yield) {
  std::vector<Placed*> victims;
  std::copy_if(all.begin(), all.end(), std::back_inserter(victims),
               [](const Placed* placed) { return MayGiveWay(*placed); });
  std::sort(victims.begin(), victims.end(),
            [](const Placed* a, const Placed* b) { return a->order < b->order; });
  TellData(victims);
  std::sort(victims.begin(), victims.end(), Colder);
  Picker picker(Elsewhere(source, with_peers), bytes);
  Alike alike = {victims.begin(), victims.begin()};
  if (yield == Yield::kEvenly) alike = FindAlike(victims);
  picker.InTurn({victims.cbegin(), alike.first});
  picker.Evenly({alike.first, alike.end});
  picker.InTurn({alike.end, victims.cend()});
  return picker.Parts();
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
