#include "runtime/pick.h"

#include <algorithm>

#include "runtime/picker.h"

namespace gpuroom {
namespace {

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

// All that may give way, the coldest first.
std::vector<Placed*> ColdestFirst(PlacedIndex& index) {
  PlacedIndex::Order all = index.givers();
  all.insert(index.given().begin(), index.given().end());
  std::vector<Placed*> victims;
  for (const auto& [coldness, placed] : all) victims.push_back(placed);
  return victims;
}

}  // namespace

std::vector<Part> PickVictims(PlacedIndex& index, const ChunkSource& source, uint64_t bytes, bool with_peers,
                              Yield yield) {
  index.TellWorkspaces();
  Picker picker(source, with_peers, bytes);
  if (yield == Yield::kEvenly) {
    const std::vector<Placed*> victims = ColdestFirst(index);
    const Picker::Some some = victims;
    const Ages ages = AgesOf(victims);
    for (Placed* old : some.first(ages.rest)) picker.Take(old);
    picker.Evenly(some.subspan(ages.rest, ages.young - ages.rest), kEvenly);
  }
  for (const auto& [coldness, placed] : index.givers()) {
    if (picker.done()) break;
    picker.Take(placed);
  }
  return picker.Parts();
}

std::vector<Part> PickReturns(PlacedIndex& index, uint64_t bytes, uint64_t slice) {
  std::vector<Part> parts;
  for (auto next = index.returners().rbegin(); next != index.returners().rend(); ++next) {
    Placed* placed = next->second;
    for (size_t first = 0; first < placed->chunks.size();) {
      const Unit unit = UnitAt(placed, first);
      first = unit.end;
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
