// Picker: collects the chunks that give way, each with the tier where it finds room.
#pragma once

#include <span>
#include <unordered_map>
#include <vector>

#include "range/chunk_source.h"
#include "range/mover.h"

namespace gpuroom {

// What is picked or left: a chunk, or all chunks of what moves whole.
struct Unit {
  Part To(Tier to, int place) const { return {placed, first, end, to, place, 0, Status()}; }

  Placed* placed;
  size_t first;
  size_t end;
  uint64_t bytes;
  Tier tier;  // where it lies
};

// The one whose first chunk is `first`.
Unit UnitAt(Placed* placed, size_t first);

// Adds what moves: to the last part, if that ends there and goes to the same place, since what is adjacent
// moves as one.
void AddPart(const Part& part, std::vector<Part>* parts);

// Picks units in HBM until they make up `bytes`.
class Picker {
 public:
  using Some = std::span<Placed* const>;

  // They go to the host, or, `with_peers`, to peers.
  Picker(const ChunkSource& source, bool with_peers, uint64_t bytes);

  // All of one, from its front on.
  void Take(Placed* giver);
  // One unit after the other, of whatever has most left in HBM and there of the middle, until a part of all
  // these is away: one byte in `parts`.
  void Evenly(Some givers, uint64_t parts);
  // Enough is picked, or nothing finds room any more.
  bool done() const;
  // What was picked, by age and address.
  std::vector<Part> Parts();

 private:
  struct Giver;

  bool Stays(const Placed& placed, size_t chunk) const;
  size_t InTheMiddle(const Placed& placed) const;
  TierState* RoomFor(uint64_t bytes);
  void Pick(const Unit& unit);

  std::vector<TierState> elsewhere_;  // the fastest first
  uint64_t missing_;
  std::vector<Part> picked_;
  std::unordered_map<const Placed*, std::vector<bool>> seen_;  // chunks that were picked, or found no room
};

}  // namespace gpuroom
