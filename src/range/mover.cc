#include "range/mover.h"

#include <algorithm>

#include "base/bounded_queue.h"
#include "base/log.h"
#include "base/no_memory.h"
#include "driver/in_context.h"
#include "tier/scratch.h"

namespace gpuroom {
namespace {

// Copies to the host that are queued while the next is prepared.
constexpr size_t kQueued = 3;

// What the first copies to the host wait for is mapped in pieces of this size.
constexpr uint64_t kFirstBytes = 128 * kMiB;

}  // namespace

// What a window shows: that many bytes of the old or of the new chunks.
struct Mover::Shown {
  uint64_t bytes;
  bool fresh;
  bool open;  // to the devices that it was open to
};

// One relocation, which may be under way.
struct Mover::Flight {
  bool to_host() const { return move->tier == Tier::kHost; }

  Relocation* move = nullptr;
  std::vector<Chunk> fresh;  // the new chunks
  uint64_t bytes = 0;
  std::vector<Shown> shown;  // by window
  std::shared_ptr<Scratch> scratch;
  uint64_t scratch_mapped = 0;  // bytes
  CUevent copied = nullptr;
};

// The streams of one Run, one a direction, and what is under way on each.
struct Mover::Lane {
  CUstream stream = nullptr;
  BoundedQueue<Flight*> waiting;   // for room
  BoundedQueue<Flight*> prepared;  // to be shown and copied
  BoundedQueue<Flight*> flying;    // being copied
};

// All memory that a Run needs for its own records is had before the first chunk moves, but for what Prepare
// needs.
struct Mover::Lanes {
  Lanes(const Driver& bound, std::vector<Relocation>* batch) : driver(bound), flights(batch->size()) {
    events.reserve(batch->size());
    for (size_t i = 0; i < batch->size(); ++i) flights[i].move = &(*batch)[i];
    for (Lane* lane : {&to_host, &to_device}) {
      for (BoundedQueue<Flight*>* queue : {&lane->waiting, &lane->prepared, &lane->flying})
        queue->Reset(flights.size());
    }
  }
  ~Lanes() {
    for (CUevent event : events) Insist([&] { return driver.EventDestroy(event); });
    for (Lane* lane : {&to_host, &to_device}) {
      if (lane->stream != nullptr) Insist([&] { return driver.StreamDestroy(lane->stream); });
    }
  }
  Status Open() {
    CUresult result = driver.CtxGetDevice(&device);
    for (Lane* lane : {&to_host, &to_device}) {
      if (result == CUDA_SUCCESS) result = driver.StreamCreate(&lane->stream, CU_STREAM_NON_BLOCKING);
    }
    return DriverStatus(result, "making streams for copies");
  }
  // An event for one copy; comes back by `events`.
  CUresult TakeEvent(CUevent* event) {
    if (events.empty()) return driver.EventCreate(event, CU_EVENT_DISABLE_TIMING);
    *event = events.back();
    events.pop_back();
    return CUDA_SUCCESS;
  }
  Lane& Of(const Relocation& move) { return move.tier == Tier::kHost ? to_host : to_device; }
  bool Idle() const { return to_host.prepared.empty() && to_host.flying.empty() && to_device.flying.empty(); }

  const Driver& driver;
  CUdevice device = 0;
  std::vector<Flight> flights;  // by relocation
  Lane to_host;
  Lane to_device;
  std::vector<CUevent> events;  // not in use
};

void Mover::Run(CUcontext context, std::vector<Relocation>* batch) {
  for (Relocation& move : *batch) move.now = move.from;
  const InContext there(driver_, context);
  Lanes lanes(driver_, batch);
  Status status = there.status();
  if (status.ok()) status = lanes.Open();
  if (status.ok()) return Carry(lanes);
  for (Relocation& move : *batch) move.status = status;
}

// What goes to the host is made ready first, while nothing is copied: mapping is
// cheapest then. What finds no room yet waits for others to land.
void Mover::Carry(Lanes& lanes) {
  for (Flight& flight : lanes.flights) lanes.Of(*flight.move).waiting.Push(&flight);
  StartWaiting(lanes, &lanes.to_host, false);
  StartWaiting(lanes, &lanes.to_device, false);
  while (!lanes.Idle()) {
    Lane& down = lanes.to_host;
    if (!down.prepared.empty() && down.flying.size() < kQueued) {
      Launch(lanes);
      continue;
    }
    Lane& landed = NextToLand(lanes);
    Land(lanes, landed);
    // What landed has left room where it came from.
    StartWaiting(lanes, &landed == &down ? &lanes.to_device : &down, true);
  }
}

// Starts what waits for room in its order; what has none still waits on. With `stop`, no further than the
// first of those.
void Mover::StartWaiting(Lanes& lanes, Lane* lane, bool stop) {
  for (size_t left = lane->waiting.size(); left > 0; --left) {
    Flight& flight = *lane->waiting.front();
    Start(lanes, flight);
    const bool has_room = flight.move->status.code() != Code::kOutOfMemory;
    if (!has_room && stop) return;
    lane->waiting.Pop();
    if (!has_room) lane->waiting.Push(&flight);
  }
}

// Makes ready what has room, and sends off what needs no more than that.
void Mover::Start(Lanes& lanes, Flight& flight) {
  Relocation& move = *flight.move;
  move.status = OrNoMemory([&] { return Prepare(lanes, flight); });
  if (move.status.ok() && !flight.to_host())
    move.status = Copy(lanes, flight.scratch->va(), move.windows.front().va, flight);
  if (!move.status.ok()) return GiveUp(lanes, flight, move.status);
  (flight.to_host() ? lanes.to_host.prepared : lanes.to_device.flying).Push(&flight);
}

// Of both lanes the copy that is done, else the one that the other lane's work waits for.
Mover::Lane& Mover::NextToLand(Lanes& lanes) {
  for (Lane* lane : {&lanes.to_host, &lanes.to_device}) {
    if (!lane->flying.empty() && driver_.EventQuery(lane->flying.front()->copied) == CUDA_SUCCESS)
      return *lane;
  }
  return lanes.to_host.flying.empty() ? lanes.to_device : lanes.to_host;
}

// Copying begins when the first chunk is mapped, and each is mapped while those before
// it are copied: the first are small.
Status Mover::CreateFresh(Flight* flight, bool first) {
  const Relocation& move = *flight->move;
  if (move.whole) {
    flight->fresh.reserve(1);  // before there is a chunk to be lost
    const Result<Chunk> chunk = move.source->CreateChunk(move.tier, move.place, flight->bytes);
    if (chunk.ok()) flight->fresh.push_back(*chunk);
    if (chunk.status().code() != Code::kOutOfMemory) return chunk.status();
  }
  uint64_t left = flight->bytes;
  for (const uint64_t most : {kFirstBytes, 2 * kFirstBytes, UINT64_MAX}) {
    if (!first && most != UINT64_MAX) continue;
    const uint64_t bytes = std::min(left, most == UINT64_MAX ? left : 2 * kFirstBytes);
    const Status status = move.source->CreateIn(move.tier, move.place, bytes, &flight->fresh, most);
    if (!status.ok()) return status;
    left -= bytes;
  }
  return Status();
}

// New chunks, and the ones in device memory, old or new, at a scratch address.
Status Mover::Prepare(Lanes& lanes, Flight& flight) {
  const Relocation& move = *flight.move;
  flight.bytes = BytesOf(move.from);
  flight.shown.assign(move.windows.size(), {flight.bytes, false, true});
  const bool first = flight.to_host() && lanes.to_host.prepared.empty();
  const Status status = CreateFresh(&flight, first);
  if (!status.ok()) return status;
  return MapScratch(lanes, flight.to_host() ? move.from : flight.fresh, &flight);
}

// To the host: the new chunks take the old ones' place, and then the bytes follow.
void Mover::Launch(Lanes& lanes) {
  Flight& flight = *lanes.to_host.prepared.Pop();
  Relocation& move = *flight.move;
  move.status = ShowAndCopy(lanes, flight);
  if (move.status.ok()) {
    lanes.to_host.flying.Push(&flight);
  } else {
    GiveUp(lanes, flight, move.status);
  }
}

// Chunk by chunk, so that the first is being copied while the next is mapped.
Status Mover::ShowAndCopy(Lanes& lanes, Flight& flight) {
  const Window& window = flight.move->windows.front();
  Shown& shown = flight.shown.front();
  const CUresult unmapped = driver_.MemUnmap(window.va, shown.bytes);
  if (unmapped != CUDA_SUCCESS) return DriverStatus(unmapped, "cuMemUnmap");
  shown = {0, true, false};
  for (const Chunk& chunk : flight.fresh) {
    const uint64_t at = shown.bytes;
    const CUresult mapped = driver_.MemMap(window.va + at, chunk.bytes, 0, chunk.handle, 0);
    if (mapped != CUDA_SUCCESS) return DriverStatus(mapped, "cuMemMap");
    shown.bytes += chunk.bytes;
    Status status = SetAccess(driver_, window.va + at, chunk.bytes, window.writers, window.readers);
    if (status.ok()) {
      const CUresult copied = driver_.MemcpyDtoDAsync(window.va + at, flight.scratch->va() + at, chunk.bytes,
                                                      lanes.to_host.stream);
      status = DriverStatus(copied, "cuMemcpyDtoDAsync");
    }
    if (!status.ok()) return status;
  }
  shown.open = true;
  const Status status = Show(flight, true);
  return status.ok() ? MarkEnd(lanes, flight) : status;
}

Status Mover::Copy(Lanes& lanes, CUdeviceptr to, CUdeviceptr from, Flight& flight) {
  const CUresult result = driver_.MemcpyDtoDAsync(to, from, flight.bytes, lanes.Of(*flight.move).stream);
  return result == CUDA_SUCCESS ? MarkEnd(lanes, flight) : DriverStatus(result, "cuMemcpyDtoDAsync");
}

// Notes the end of the flight's copies, which are submitted.
Status Mover::MarkEnd(Lanes& lanes, Flight& flight) {
  CUevent event = nullptr;
  CUresult result = lanes.TakeEvent(&event);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuEventCreate");
  result = driver_.EventRecord(event, lanes.Of(*flight.move).stream);
  if (result == CUDA_SUCCESS) {
    flight.copied = event;
  } else {
    lanes.events.push_back(event);
  }
  return DriverStatus(result, "cuEventRecord");
}

// The lane's oldest copy: waits for it. To the device: the new chunks take the old
// ones' place now that they hold the bytes.
void Mover::Land(Lanes& lanes, Lane& lane) {
  Flight& flight = *lane.flying.Pop();
  Relocation& move = *flight.move;
  const CUresult result = Insist([&] { return driver_.EventSynchronize(flight.copied); });
  lanes.events.push_back(flight.copied);
  Status status = DriverStatus(result, "waiting for a copy");
  if (status.ok() && !flight.to_host()) status = Show(flight, true);
  if (!status.ok()) {
    move.status = status;
    GiveUp(lanes, flight, status);
    return;
  }
  DropScratch(flight);
  move.now.swap(flight.fresh);
  Return(*move.source, &move.from);
}

// Puts the old chunks back where they were, which hold their bytes still. It needs no memory of the
// process's. The scratch mapping and, as soon as no window shows them, the new chunks go first: their memory
// may be what mapping needs.
void Mover::GiveUp(Lanes& lanes, Flight& flight, Status why) {
  Relocation& move = *flight.move;
  // Part of the copies may be under way.
  Insist([&] { return driver_.StreamSynchronize(lanes.Of(move).stream); });
  DropScratch(flight);
  const CUresult back = InsistOnMapping([&] {
    const Status shown = Show(flight, false);
    if (!shown.ok() && NoneShowsFresh(flight)) (void)move.source->Release(&flight.fresh);
    return shown.ok() ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
  });
  if (back != CUDA_SUCCESS) {
    move.lost = true;
    LogLost(flight.bytes, move.windows.front().va, why.what());
  }
  Return(*move.source, &flight.fresh);
}

void LogLost(uint64_t bytes, CUdeviceptr va, const char* what) {
  Log(LogLevel::kError,
      "%llu bytes at %#llx cannot be mapped again after %s failed; launches and copies get "
      "CUDA_ERROR_OUT_OF_MEMORY from now on, since they could meet them",
      static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(va), what);
}

bool Mover::NoneShowsFresh(const Flight& flight) {
  return std::none_of(flight.shown.begin(), flight.shown.end(),
                      [](const Shown& shown) { return shown.fresh && shown.bytes > 0; });
}

Status Mover::MapScratch(const Lanes& lanes, const std::vector<Chunk>& chunks, Flight* flight) {
  Result<std::shared_ptr<Scratch>> scratch = Scratch::Reserve(driver_, flight->bytes);
  if (!scratch.ok()) return scratch.status();
  flight->scratch = std::move(*scratch);
  flight->scratch_mapped = 0;
  const Status status = MapChunks(driver_, flight->scratch->va(), chunks, &flight->scratch_mapped);
  if (!status.ok()) return status;
  return SetAccess(driver_, flight->scratch->va(), flight->bytes, uint64_t{1} << lanes.device);
}

void Mover::DropScratch(Flight& flight) {
  if (flight.scratch == nullptr) return;
  if (flight.scratch_mapped > 0) {
    Insist([&] { return driver_.MemUnmap(flight.scratch->va(), flight.scratch_mapped); });
  }
  flight.scratch.reset();
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
  chunks->clear();
}

}  // namespace gpuroom
