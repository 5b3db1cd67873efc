// Parts of what was given out, cut into relocations, and the chunks that come of it.
#include "range/mover.h"

namespace headroom {
namespace {

// Relocations larger than this are cut: small enough for several to be in flight.
// Mapping costs per chunk while a copy to the host runs, 1 ms each (docs/measurements.md), so that
// large chunks pay.
constexpr uint64_t kMostBytes = 512 * kMiB;

// A relocation and the chunks of its part's Placed that it stands for.
struct Cut {
  Part* part;
  size_t first;
  size_t count;
};

// The end of the run of chunks from `first` on that move together.
size_t EndOfRun(const Part& part, size_t first) {
  const std::vector<Chunk>& chunks = part.placed->chunks;
  uint64_t bytes = chunks[first].bytes;
  size_t end = first + 1;
  while (end < part.end && chunks[end].tier == chunks[first].tier &&
         bytes + chunks[end].bytes <= kMostBytes) {
    bytes += chunks[end++].bytes;
  }
  return end;
}

Relocation MakeRelocation(const Part& part, size_t first, size_t end, uint64_t offset, ChunkSource& source) {
  Relocation move;
  const std::vector<Chunk>& chunks = part.placed->chunks;
  move.from.assign(chunks.begin() + static_cast<ptrdiff_t>(first),
                   chunks.begin() + static_cast<ptrdiff_t>(end));
  move.windows = part.placed->windows;
  for (Window& window : move.windows) window.va += offset;
  move.source = &source;
  move.tier = part.tier;
  move.place = part.place;
  return move;
}

// Puts the new chunks where the old ones were in the list.
void Enter(const Cut& cut, const Relocation& move) {
  std::vector<Chunk>& chunks = cut.part->placed->chunks;
  const auto at = chunks.begin() + static_cast<ptrdiff_t>(cut.first);
  const auto next = chunks.erase(at, at + static_cast<ptrdiff_t>(cut.count));
  chunks.insert(next, move.now.begin(), move.now.end());
}

}  // namespace

bool Movable(const Placed& placed) {
  if (placed.pins != 0 || placed.windows.empty() || !placed.awake()) return false;
  const uint64_t device = uint64_t{1} << placed.device;
  return (placed.windows.front().writers & device) != 0;
}

void Mover::Move(CUcontext context, ChunkSource& source, std::vector<Part>* parts) {
  std::vector<Relocation> moves;
  std::vector<Cut> cuts;
  for (Part& part : *parts) {
    const std::vector<Chunk>& chunks = part.placed->chunks;
    uint64_t offset = 0;
    for (size_t i = 0; i < part.first; ++i) offset += chunks[i].bytes;
    for (size_t i = part.first; i < part.end;) {
      const size_t end = EndOfRun(part, i);
      if (chunks[i].tier != part.tier) {
        moves.push_back(MakeRelocation(part, i, end, offset, source));
        cuts.push_back({&part, i, end - i});
      }
      for (; i < end; ++i) offset += chunks[i].bytes;
    }
  }
  Run(context, &moves);
  // From the back, so that the places of those before stay what they are.
  for (size_t i = cuts.size(); i-- > 0;) {
    Part& part = *cuts[i].part;
    if (moves[i].status.ok()) {
      Enter(cuts[i], moves[i]);
      part.placed->CountTiers();
      part.moved += BytesOf(moves[i].now);
    } else {
      part.status = moves[i].status;
    }
  }
}

}  // namespace headroom
