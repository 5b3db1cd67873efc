#include "runtime/pick.h"

#include <algorithm>

#include "runtime/picker.h"

namespace gpuroom {
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

// Where data gives way evenly: after the oldest (kOldestPart) an eighth of the rest, but for the youngest
// eighth, since what comes last is often used most.
constexpr uint64_t kEvenly = 8;
constexpr uint64_t kYoungest = 8;

// Data without a hint, the oldest first, as positions among all that may give way.
struct Ages {
  size_t rest;   // where it begins that is not among the oldest
  size_t young;  // where the youngest begin
};

Ages AgesOf(const std::vector<Placed*>& coldest_first) {
  const auto alike = [](const Placed* placed) { return placed->hint == Hint::kNone && placed->data; };
  const auto begin = coldest_first.begin();
  auto rest = std::find_if(begin, coldest_first.end(), alike);
  auto young = std::find_if_not(rest, coldest_first.end(), alike);
  uint64_t bytes = 0;
  for (auto at = rest; at != young; ++at) bytes += BytesOf(**at);
  for (uint64_t old = 0; rest != young; ++rest) {
    old += BytesOf(**rest);
    if (old > bytes / kOldestPart) break;
  }
  for (uint64_t late = 0; young != rest && late < bytes / kYoungest;) late += BytesOf(**--young);
  return {static_cast<size_t>(rest - begin), static_cast<size_t>(young - begin)};
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
  Picker picker(source, with_peers, bytes);
  const Picker::Some some = victims;
  if (yield == Yield::kEvenly) {
    const Ages ages = AgesOf(victims);
    picker.InTurn(some.first(ages.rest));
    picker.Evenly(some.subspan(ages.rest, ages.young - ages.rest), kEvenly);
  }
  picker.InTurn(some);
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
      AddPart(unit.To(Tier::kDevice, placed->device), &parts);
    }
  }
  return parts;
}

}  // namespace gpuroom
