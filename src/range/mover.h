// Mover: replaces chunks by chunks of another tier at the addresses where they are
// mapped, contents included. Copies run on streams of its own, several in
// flight, while the CPU maps and unmaps others.
//
// The caller sees to it that nothing uses the memory meanwhile: no kernel or
// copy in flight, none submitted until Run returns, no capture in progress.
//
// While bytes are copied both chunks are mapped, one of them at a scratch address. That is always
// the one in device memory: mapping host memory costs 10 ms a GiB, device memory 1
// (docs/measurements.md).
#pragma once

#include <vector>

#include "base/status.h"
#include "driver/driver.h"
#include "range/chunk_source.h"
#include "range/placed.h"

namespace gpuroom {

// Adjacent chunks that move together, or not at all, and where they go.
struct Relocation {
  // In:
  std::vector<Chunk> from;        // in address order; empty afterwards if `status` is ok
  std::vector<Window> windows;    // the addresses of the first of `from`; at least one
  ChunkSource* source = nullptr;  // gives the new chunks and takes the old ones
  Tier tier = Tier::kHost;        // where to
  int place = 0;                  // as Chunk::place
  bool whole = false;             // to one chunk, if that can be had
  // Out:
  std::vector<Chunk> now;  // what is mapped there now: new chunks if `status` is ok, else those of `from`
  Status status;           // kOutOfMemory: no room there
  bool lost =
      false;  // it failed, and `from` could not be mapped again: nothing may touch the addresses any more
};

// Chunks of a Placed that are to move: those of [first, end) that do not lie in
// `tier` yet.
struct Part {
  // In:
  Placed* placed = nullptr;
  size_t first = 0;
  size_t end = 0;
  Tier tier = Tier::kHost;
  int place = 0;
  // Out:
  uint64_t moved = 0;  // bytes
  Status status;       // the first failure of any of it
  bool lost = false;   // as Relocation::lost, of any of it
};

// The one line about memory that could not be mapped again after `what` failed.
void LogLost(uint64_t bytes, CUdeviceptr va, const char* what);

// Do all of its chunks move at once, so that they become one?
bool MovesWhole(const Placed& placed);

// Can it be moved by copies on its device, and be mapped again as it was?
bool Movable(const Placed& placed);

// Bytes of `placed` that `tier` holds.
inline uint64_t BytesIn(Tier tier, const Placed& placed) { return BytesIn(tier, placed.chunks); }

// All of its bytes, asleep or not.
inline uint64_t BytesOf(const Placed& placed) {
  if (placed.awake()) return BytesOf(placed.chunks);
  const AsleepBytes bytes = placed.asleep->Bytes();
  return bytes.kept + bytes.on_disk + bytes.dropped;
}

class Mover {
 public:
  explicit Mover(const Driver& driver) : driver_(driver) {}

  // Carries the batch out in order, in `context`, whose device may read and write
  // all of it. Each relocation succeeds or leaves its bytes where they were, also where the process has no
  // memory for records; std::bad_alloc: nothing was done. What could not even be put back,
  // though it was tried for seconds, is logged and `lost`: the caller sees to it that no kernel runs any
  // more. One thread at a time.
  void Run(CUcontext context, std::vector<Relocation>* batch);

  // The same for parts of what `source` has given out, no two of which overlap and
  // those of one Placed side by side in the list, in address order. Cuts them into relocations, lets both
  // directions run at once, and enters the new chunks.
  void Move(CUcontext context, ChunkSource& source, std::vector<Part>* parts);

 private:
  struct Shown;
  struct Flight;
  struct Lane;
  struct Lanes;

  void Carry(Lanes& lanes);
  void StartWaiting(Lanes& lanes, Lane* lane, bool stop);
  void Start(Lanes& lanes, Flight& flight);
  Lane& NextToLand(Lanes& lanes);
  Status CreateFresh(Flight* flight, bool first);
  Status Prepare(Lanes& lanes, Flight& flight);
  void Launch(Lanes& lanes);
  void Land(Lanes& lanes, Lane& lane);
  void GiveUp(Lanes& lanes, Flight& flight, Status why);
  static bool NoneShowsFresh(const Flight& flight);
  Status ShowAndCopy(Lanes& lanes, Flight& flight);
  Status Copy(Lanes& lanes, CUdeviceptr to, CUdeviceptr from, Flight& flight);
  Status MarkEnd(Lanes& lanes, Flight& flight);
  Status MapScratch(const Lanes& lanes, const std::vector<Chunk>& chunks, Flight* flight);
  void DropScratch(Flight& flight);
  Status Show(Flight& flight, bool fresh);
  void Return(ChunkSource& source, std::vector<Chunk>* chunks);

  const Driver& driver_;
};

}  // namespace gpuroom
