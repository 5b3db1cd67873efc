#include "runtime/picker.h"

#include <algorithm>

namespace gpuroom {

Unit UnitAt(Placed* placed, size_t first) {
  const std::vector<Chunk>& chunks = placed->chunks;
  const Tier tier = chunks[first].tier;
  if (first == 0 && MovesWhole(*placed)) return {placed, 0, chunks.size(), BytesOf(chunks), tier};
  return {placed, first, first + 1, chunks[first].bytes, tier};
}

void AddPart(const Part& part, std::vector<Part>* parts) {
  if (!parts->empty()) {
    Part& last = parts->back();
    if (last.placed == part.placed && last.end == part.first && last.tier == part.tier &&
        last.place == part.place) {
      last.end = part.end;
      return;
    }
  }
  parts->push_back(part);
}

// One of those that give way evenly.
struct Picker::Giver {
  explicit Giver(Placed* giver)
      : placed(giver),
        bytes(BytesOf(*giver)),
        away(bytes - BytesIn(Tier::kDevice, *giver)),
        turn(giver->order * 0x9E3779B97F4A7C15u) {}

  // For a heap whose front is to give next.
  bool operator<(const Giver& other) const {
    const double mine = static_cast<double>(away) / static_cast<double>(bytes);
    const double theirs = static_cast<double>(other.away) / static_cast<double>(other.bytes);
    return mine != theirs ? mine > theirs : turn > other.turn;
  }

  Placed* placed;
  uint64_t bytes;
  uint64_t away;  // of them, those outside HBM and those picked
  // Among those of which as much is away: by the golden ratio, so that neighbours in age are far apart.
  uint64_t turn;
};

Picker::Picker(const ChunkSource& source, bool with_peers, uint64_t bytes)
    : elsewhere_(source.States()), missing_(bytes) {
  elsewhere_.erase(elsewhere_.begin());
  std::erase_if(elsewhere_, [=](const TierState& state) { return state.tier == Tier::kPeer && !with_peers; });
}

void Picker::Take(Placed* giver) {
  for (size_t next = 0; next < giver->chunks.size() && missing_ > 0;) {
    const Unit unit = UnitAt(giver, next);
    next = unit.end;
    if (Stays(*giver, unit.first)) Pick(unit);
  }
}

bool Picker::done() const {
  const auto full = [](const TierState& state) { return state.free < kGranularity; };
  return missing_ == 0 || std::all_of(elsewhere_.begin(), elsewhere_.end(), full);
}

void Picker::Evenly(Some givers, uint64_t parts) {
  std::vector<Giver> heap(givers.begin(), givers.end());
  std::make_heap(heap.begin(), heap.end());
  uint64_t bytes = 0;
  uint64_t away = 0;
  for (const Giver& giver : heap) {
    bytes += giver.bytes;
    away += giver.away;
  }
  while (!heap.empty() && missing_ > 0 && away < bytes / parts) {
    std::pop_heap(heap.begin(), heap.end());
    Giver& giver = heap.back();
    const size_t next = InTheMiddle(*giver.placed);
    if (next == giver.placed->chunks.size()) {
      heap.pop_back();
      continue;
    }
    const Unit unit = UnitAt(giver.placed, MovesWhole(*giver.placed) ? 0 : next);
    Pick(unit);
    giver.away += unit.bytes;
    away += unit.bytes;
    std::push_heap(heap.begin(), heap.end());
  }
}

std::vector<Part> Picker::Parts() {
  std::sort(picked_.begin(), picked_.end(), [](const Part& a, const Part& b) {
    return a.placed != b.placed ? a.placed->order < b.placed->order : a.first < b.first;
  });
  std::vector<Part> parts;
  for (const Part& part : picked_) AddPart(part, &parts);
  return parts;
}

bool Picker::Stays(const Placed& placed, size_t chunk) const {
  if (placed.chunks[chunk].tier != Tier::kDevice) return false;
  const auto seen = seen_.find(&placed);
  return seen == seen_.end() || !seen->second[chunk];
}

// The chunk in the middle of the longest row that stays; the end if none does.
size_t Picker::InTheMiddle(const Placed& placed) const {
  const size_t count = placed.chunks.size();
  size_t middle = count;
  size_t longest = 0;
  for (size_t first = 0; first < count; ++first) {
    size_t end = first;
    while (end < count && Stays(placed, end)) ++end;
    if (end - first > longest) {
      longest = end - first;
      middle = first + longest / 2;
    }
    first = end;
  }
  return middle;
}

TierState* Picker::RoomFor(uint64_t bytes) {
  const auto found = std::find_if(elsewhere_.begin(), elsewhere_.end(),
                                  [=](const TierState& state) { return state.free >= bytes; });
  return found != elsewhere_.end() ? &*found : nullptr;
}

void Picker::Pick(const Unit& unit) {
  std::vector<bool>& seen = seen_[unit.placed];
  seen.resize(unit.placed->chunks.size());
  std::fill(seen.begin() + static_cast<ptrdiff_t>(unit.first),
            seen.begin() + static_cast<ptrdiff_t>(unit.end), true);
  TierState* to = RoomFor(unit.bytes);
  if (to == nullptr) return;
  to->free -= unit.bytes;
  missing_ -= std::min(missing_, unit.bytes);
  picked_.push_back(unit.To(to->tier, to->place));
}

}  // namespace gpuroom
