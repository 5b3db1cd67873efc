#include "range/mover.h"

#include "base/log.h"
#include "base/undo.h"

namespace headroom {
namespace {

// In flight at once: enough for a copy to run in each direction while the next
// of each is prepared.
constexpr size_t kFlights = 4;

// A driver call that only puts things back is worth insisting on: nobody else
// knows what is to be undone.
constexpr int kInsist = 16;

// A relocation and the chunks of its part's Placed that it stands for.
struct Cut {
  Part* part;
  size_t first;
  size_t count;
};

// The run of chunks from `first` on that move together: small enough for several
// to be in flight, large enough for large new chunks.
size_t EndOfRun(const Part& part, size_t first, uint64_t most) {
  const std::vector<Chunk>& chunks = part.placed->chunks;
  uint64_t bytes = chunks[first].bytes;
  size_t end = first + 1;
  while (end < part.end && chunks[end].tier == chunks[first].tier && bytes + chunks[end].bytes <= most) {
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

// Both directions by turns, each in its order, so that both links are in use.
std::vector<size_t> ByTurns(const std::vector<Relocation>& moves) {
  std::vector<size_t> lanes[2];
  for (size_t i = 0; i < moves.size(); ++i) lanes[moves[i].tier == Tier::kHost ? 0 : 1].push_back(i);
  std::vector<size_t> order;
  order.reserve(moves.size());
  for (size_t i = 0; order.size() < moves.size(); ++i) {
    for (const std::vector<size_t>& lane : lanes) {
      if (i < lane.size()) order.push_back(lane[i]);
    }
  }
  return order;
}

// Puts the new chunks where the old ones were in the list.
void Enter(const Cut& cut, const Relocation& move) {
  std::vector<Chunk>& chunks = cut.part->placed->chunks;
  const auto at = chunks.begin() + static_cast<ptrdiff_t>(cut.first);
  const auto next = chunks.erase(at, at + static_cast<ptrdiff_t>(cut.count));
  chunks.insert(next, move.now.begin(), move.now.end());
}

template <typename Call>
CUresult Insist(Call call) {
  CUresult result = call();
  for (int tries = 1; result != CUDA_SUCCESS && tries < kInsist; ++tries) result = call();
  return result;
}

}  // namespace

// What a window shows: that many bytes of the old or of the new chunks.
struct Mover::Shown {
  uint64_t bytes;
  bool fresh;
  bool open;  // to the devices that it was open to
};

// One relocation under way.
struct Mover::Flight {
  Relocation* move = nullptr;
  std::vector<Chunk> fresh;  // the new chunks
  uint64_t bytes = 0;
  bool to_host = false;
  std::vector<Shown> shown;     // by window
  CUdeviceptr scratch = 0;      // the reservation
  uint64_t scratch_mapped = 0;  // bytes
  CUevent copied = nullptr;
};

// Streams and events of one Run.
struct Mover::Lanes {
  explicit Lanes(const Driver& bound) : driver(bound) {}
  ~Lanes() {
    for (CUevent event : events) driver.EventDestroy(event);
    for (CUstream stream : {to_host, to_device}) {
      if (stream != nullptr) driver.StreamDestroy(stream);
    }
  }
  Status Open() {
    CUresult result = driver.CtxGetDevice(&device);
    for (CUstream* stream : {&to_host, &to_device}) {
      if (result == CUDA_SUCCESS) result = driver.StreamCreate(stream, CU_STREAM_NON_BLOCKING);
    }
    for (size_t i = 0; i < kFlights && result == CUDA_SUCCESS; ++i) {
      CUevent event = nullptr;
      result = driver.EventCreate(&event, CU_EVENT_DISABLE_TIMING);
      if (result == CUDA_SUCCESS) events.push_back(event);
    }
    return DriverStatus(result, "making streams for copies");
  }

  const Driver& driver;
  CUdevice device = 0;
  CUstream to_host = nullptr;
  CUstream to_device = nullptr;
  std::vector<CUevent> events;  // those not in flight
};

bool Movable(const Placed& placed) {
  if (placed.pins != 0 || placed.windows.empty()) return false;
  const uint64_t device = uint64_t{1} << placed.device;
  return (placed.windows.front().writers & device) != 0;
}

void Mover::Run(CUcontext context, std::vector<Relocation>* batch) {
  for (Relocation& move : *batch) move.now = move.from;
  Status status = DriverStatus(driver_.CtxPushCurrent(context), "cuCtxPushCurrent");
  if (status.ok()) {
    Lanes lanes(driver_);
    status = lanes.Open();
    std::deque<Flight> flights;
    const auto finish_oldest = [&] {
      Finish(lanes, flights.front());
      flights.pop_front();
    };
    for (Relocation& move : *batch) {
      if (!status.ok()) break;
      if (flights.size() == kFlights) finish_oldest();
      Flight flight;
      move.status = Start(lanes, move, &flight);
      // What is in flight may be about to give back just what is missing.
      while (move.status.code() == Code::kOutOfMemory && !flights.empty()) {
        finish_oldest();
        move.status = Start(lanes, move, &flight);
      }
      if (move.status.ok()) flights.push_back(std::move(flight));
    }
    while (!flights.empty()) finish_oldest();
    CUcontext popped = nullptr;
    Insist([&] { return driver_.CtxPopCurrent(&popped); });
  }
  if (status.ok()) return;
  for (Relocation& move : *batch) move.status = status;
}

void Mover::Move(CUcontext context, ChunkSource& source, std::vector<Part>* parts) {
  std::vector<Relocation> moves;
  std::vector<Cut> cuts;
  for (Part& part : *parts) {
    const std::vector<Chunk>& chunks = part.placed->chunks;
    uint64_t offset = 0;
    for (size_t i = 0; i < part.first; ++i) offset += chunks[i].bytes;
    for (size_t i = part.first; i < part.end;) {
      const size_t end = EndOfRun(part, i, source.device_chunk_bytes());
      if (chunks[i].tier != part.tier) {
        moves.push_back(MakeRelocation(part, i, end, offset, source));
        cuts.push_back({&part, i, end - i});
      }
      for (; i < end; ++i) offset += chunks[i].bytes;
    }
  }
  const std::vector<size_t> order = ByTurns(moves);
  std::vector<Relocation> batch;
  batch.reserve(moves.size());
  for (const size_t i : order) batch.push_back(std::move(moves[i]));
  Run(context, &batch);
  std::vector<const Relocation*> done(moves.size());
  for (size_t i = 0; i < order.size(); ++i) done[order[i]] = &batch[i];
  // From the back, so that the places of those before stay what they are.
  for (size_t i = cuts.size(); i-- > 0;) {
    Part& part = *cuts[i].part;
    if (done[i]->status.ok()) {
      Enter(cuts[i], *done[i]);
      part.placed->CountTiers();
      part.moved += BytesOf(done[i]->now);
    } else {
      part.status = done[i]->status;
    }
  }
}

Status Mover::Start(Lanes& lanes, Relocation& move, Flight* flight) {
  *flight = Flight();
  flight->move = &move;
  flight->bytes = BytesOf(move.from);
  flight->to_host = move.tier == Tier::kHost;
  flight->shown.assign(move.windows.size(), {flight->bytes, false, true});
  Status status = move.source->CreateIn(move.tier, move.place, flight->bytes, &flight->fresh);
  if (status.ok()) status = flight->to_host ? StartToHost(lanes, flight) : StartToDevice(lanes, flight);
  if (!status.ok()) GiveUp(*flight, status);
  return status;
}

// The old chunks go to the scratch address, the new ones take their place, and
// then the bytes follow.
Status Mover::StartToHost(Lanes& lanes, Flight* flight) {
  Status status = MapScratch(lanes, flight->move->from, flight);
  if (!status.ok()) return status;
  status = Show(*flight, true);
  if (!status.ok()) return status;
  return Copy(lanes, flight->move->windows.front().va, flight->scratch, flight);
}

// The bytes go to the new chunks at the scratch address; Finish lets these take
// the old ones' place.
Status Mover::StartToDevice(Lanes& lanes, Flight* flight) {
  const Status status = MapScratch(lanes, flight->fresh, flight);
  if (!status.ok()) return status;
  return Copy(lanes, flight->scratch, flight->move->windows.front().va, flight);
}

Status Mover::Copy(Lanes& lanes, CUdeviceptr to, CUdeviceptr from, Flight* flight) {
  const CUstream stream = flight->to_host ? lanes.to_host : lanes.to_device;
  CUresult result = driver_.MemcpyDtoDAsync(to, from, flight->bytes, stream);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemcpyDtoDAsync");
  result = driver_.EventRecord(lanes.events.back(), stream);
  if (result != CUDA_SUCCESS) {
    // Nothing says when the copy ends but its stream.
    Insist([&] { return driver_.StreamSynchronize(stream); });
    return DriverStatus(result, "cuEventRecord");
  }
  flight->copied = lanes.events.back();
  lanes.events.pop_back();
  return Status();
}

void Mover::Finish(Lanes& lanes, Flight& flight) {
  Relocation& move = *flight.move;
  const CUresult result = Insist([&] { return driver_.EventSynchronize(flight.copied); });
  lanes.events.push_back(flight.copied);
  Status status = DriverStatus(result, "waiting for a copy");
  if (status.ok() && !flight.to_host) {
    status = Show(flight, true);
  }
  if (!status.ok()) {
    move.status = status;
    GiveUp(flight, status);
    return;
  }
  DropScratch(flight);
  move.now.swap(flight.fresh);
  std::vector<Chunk> old = move.from;
  Return(*move.source, &old);
}

// Puts the old chunks back where they were, which hold their bytes still.
void Mover::GiveUp(Flight& flight, Status why) {
  Relocation& move = *flight.move;
  const CUresult back = Insist([&] { return Show(flight, false).ok() ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN; });
  if (back != CUDA_SUCCESS) {
    Log(LogLevel::kError, "%llu bytes at %#llx cannot be mapped again after %s failed",
        static_cast<unsigned long long>(flight.bytes),
        static_cast<unsigned long long>(move.windows.front().va), why.what());
  }
  DropScratch(flight);
  Return(*move.source, &flight.fresh);
}

Status Mover::MapScratch(const Lanes& lanes, const std::vector<Chunk>& chunks, Flight* flight) {
  const CUresult reserved = driver_.MemAddressReserve(&flight->scratch, flight->bytes, 0, 0, 0);
  if (reserved != CUDA_SUCCESS) {
    flight->scratch = 0;
    return DriverStatus(reserved, "cuMemAddressReserve");
  }
  const Status status = MapChunks(driver_, flight->scratch, chunks, &flight->scratch_mapped);
  if (!status.ok()) return status;
  return SetAccess(driver_, flight->scratch, flight->bytes, uint64_t{1} << lanes.device);
}

void Mover::DropScratch(Flight& flight) {
  if (flight.scratch == 0) return;
  if (flight.scratch_mapped > 0) {
    Insist([&] { return driver_.MemUnmap(flight.scratch, flight.scratch_mapped); });
  }
  // What stays reserved costs addresses alone.
  Insist([&] { return driver_.MemAddressFree(flight.scratch, flight.bytes); });
  flight.scratch = 0;
}

// Has every window show the new chunks, or the old ones.
Status Mover::Show(Flight& flight, bool fresh) {
  const std::vector<Chunk>& chunks = fresh ? flight.fresh : flight.move->from;
  for (size_t i = 0; i < flight.shown.size(); ++i) {
    const Window& window = flight.move->windows[i];
    Shown& shown = flight.shown[i];
    if (shown.fresh == fresh && shown.open) continue;
    if (shown.bytes > 0) {
      const CUresult unmapped = driver_.MemUnmap(window.va, shown.bytes);
      if (unmapped != CUDA_SUCCESS) return DriverStatus(unmapped, "cuMemUnmap");
    }
    shown = {0, fresh, false};
    Status status = MapChunks(driver_, window.va, chunks, &shown.bytes);
    if (status.ok()) status = SetAccess(driver_, window.va, shown.bytes, window.writers, window.readers);
    if (!status.ok()) return status;
    shown.open = true;
  }
  return Status();
}

void Mover::Return(ChunkSource& source, std::vector<Chunk>* chunks) {
  for (int tries = 0; !chunks->empty() && tries < kInsist; ++tries) {
    if (source.Release(chunks).ok()) return;
  }
  if (chunks->empty()) return;
  Log(LogLevel::kError, "%llu bytes cannot be given back to the driver",
      static_cast<unsigned long long>(BytesOf(*chunks)));
}

}  // namespace headroom
