// Parts of what was given out, cut into relocations, and the chunks that come of it.
#include "range/mover.h"

namespace gpuroom {
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
  if (first == 0 && part.end == chunks.size() && MovesWhole(*part.placed)) return part.end;
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
  move.whole = part.placed->whole && end - first == chunks.size();
  return move;
}

// Cuts parts into relocations. The place in a Placed goes on from one of its parts to the next.
class Cutter {
 public:
  Cutter(ChunkSource& source, std::vector<Relocation>* moves, std::vector<Cut>* cuts)
      : source_(source), moves_(*moves), cuts_(*cuts) {}

  void Add(Part* part) {
    if (part->placed != placed_ || part->first < at_) StartOf(part->placed);
    Pass(part->first);
    while (at_ < part->end) {
      const size_t end = EndOfRun(*part, at_);
      if (placed_->chunks[at_].tier != part->tier) {
        moves_.push_back(MakeRelocation(*part, at_, end, offset_, source_));
        cuts_.push_back({part, at_, end - at_});
      }
      Pass(end);
    }
  }

 private:
  void StartOf(Placed* placed) {
    placed_ = placed;
    at_ = 0;
    offset_ = 0;
  }
  void Pass(size_t end) {
    while (at_ < end) offset_ += placed_->chunks[at_++].bytes;
  }

  ChunkSource& source_;
  std::vector<Relocation>& moves_;
  std::vector<Cut>& cuts_;
  Placed* placed_ = nullptr;
  size_t at_ = 0;        // chunks of placed_ that were passed
  uint64_t offset_ = 0;  // their bytes
};

void Note(const Relocation& move, Part* part) {
  part->lost = part->lost || move.lost;
  if (move.status.ok()) {
    part->moved += BytesOf(move.now);
  } else if (part->status.ok()) {
    part->status = move.status;
  }
}

// The cuts [first, end), which are of one Placed and in address order.
struct Entry {
  size_t first;
  size_t end;
  std::vector<Chunk> chunks;  // of the Placed afterwards; has room for all that may come of the cuts
};

std::vector<Entry> MakeEntries(const std::vector<Cut>& cuts, const std::vector<Relocation>& moves) {
  std::vector<Entry> entries;
  for (size_t i = 0; i < cuts.size();) {
    const Placed& placed = *cuts[i].part->placed;
    Entry entry{i, i, {}};
    size_t most = placed.chunks.size();
    for (; entry.end < cuts.size() && cuts[entry.end].part->placed == &placed; ++entry.end)
      most += BytesOf(moves[entry.end].from) / kGranularity;
    entry.chunks.reserve(most);
    i = entry.end;
    entries.push_back(std::move(entry));
  }
  return entries;
}

// Enters what came of the cuts. It needs no memory of the process's.
void Enter(const std::vector<Cut>& cuts, const std::vector<Relocation>& moves, Entry* entry) {
  Placed& placed = *cuts[entry->first].part->placed;
  const std::vector<Chunk>& old = placed.chunks;
  std::vector<Chunk>& chunks = entry->chunks;
  auto from = old.begin();
  for (size_t i = entry->first; i < entry->end; ++i) {
    const auto moved = old.begin() + static_cast<ptrdiff_t>(cuts[i].first);
    chunks.insert(chunks.end(), from, moved);
    chunks.insert(chunks.end(), moves[i].now.begin(), moves[i].now.end());
    from = moved + static_cast<ptrdiff_t>(cuts[i].count);
    Note(moves[i], cuts[i].part);
  }
  chunks.insert(chunks.end(), from, old.end());
  placed.chunks.swap(chunks);
  placed.chunks.shrink_to_fit();  // stays as it is where there is no memory for that
  placed.CountTiers();
}

}  // namespace

bool MovesWhole(const Placed& placed) {
  return placed.whole && !placed.chunks.empty() &&
         BytesIn(placed.chunks.front().tier, placed) == BytesOf(placed.chunks);
}

bool Movable(const Placed& placed) {
  if (placed.pins != 0 || placed.windows.empty() || !placed.awake()) return false;
  const uint64_t device = uint64_t{1} << placed.device;
  return (placed.windows.front().writers & device) != 0;
}

void Mover::Move(CUcontext context, ChunkSource& source, std::vector<Part>* parts) {
  std::vector<Relocation> moves;
  std::vector<Cut> cuts;
  Cutter cutter(source, &moves, &cuts);
  for (Part& part : *parts) cutter.Add(&part);
  std::vector<Entry> entries = MakeEntries(cuts, moves);
  Run(context, &moves);
  for (Entry& entry : entries) Enter(cuts, moves, &entry);
}

}  // namespace gpuroom
