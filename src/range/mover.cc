#include "range/mover.h"

#include <algorithm>

#include "base/log.h"
#include "driver/insist.h"
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

// One relocation under way.
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
  std::deque<Relocation*> waiting;  // for room
  std::deque<Flight> prepared;      // to be shown and copied
  std::deque<Flight> flying;        // being copied
};

struct Mover::Lanes {
  explicit Lanes(const Driver& bound) : driver(bound) {}
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
  Lane to_host;
  Lane to_device;
  std::vector<CUevent> events;  // not in use
};

void Mover::Run(CUcontext context, std::vector<Relocation>* batch) {
  for (Relocation& move : *batch) move.now = move.from;
  Status status = DriverStatus(driver_.CtxPushCurrent(context), "cuCtxPushCurrent");
  if (status.ok()) {
    Lanes lanes(driver_);
    status = lanes.Open();
    if (status.ok()) Carry(lanes, batch);
    PopContext(driver_);
  }
  if (status.ok()) return;
  for (Relocation& move : *batch) move.status = status;
}

// What goes to the host is made ready first, while nothing is copied: mapping is
// cheapest then. What finds no room yet waits for others to land.
void Mover::Carry(Lanes& lanes, std::vector<Relocation>* batch) {
  for (Relocation& move : *batch) lanes.Of(move).waiting.push_back(&move);
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

// Starts what waits for room in its order. With `stop`, no further than the first that still
// has none.
void Mover::StartWaiting(Lanes& lanes, Lane* lane, bool stop) {
  std::deque<Relocation*> later;
  while (!lane->waiting.empty()) {
    Relocation* move = lane->waiting.front();
    Start(lanes, *move);
    if (move->status.code() == Code::kOutOfMemory && stop) break;
    if (move->status.code() == Code::kOutOfMemory) later.push_back(move);
    lane->waiting.pop_front();
  }
  if (!later.empty()) lane->waiting.swap(later);
}

// Makes ready what has room, and sends off what needs no more than that.
void Mover::Start(Lanes& lanes, Relocation& move) {
  Flight flight;
  move.status = Prepare(lanes, move, &flight);
  if (move.status.ok() && !flight.to_host()) {
    move.status = Copy(lanes, flight.scratch->va(), move.windows.front().va, flight);
    if (!move.status.ok()) GiveUp(lanes, flight, move.status);
  }
  if (!move.status.ok()) return;
  (flight.to_host() ? lanes.to_host.prepared : lanes.to_device.flying).push_back(std::move(flight));
}

// Of both lanes the copy that is done, else the one that the other lane's work waits for.
Mover::Lane& Mover::NextToLand(Lanes& lanes) {
  for (Lane* lane : {&lanes.to_host, &lanes.to_device}) {
    if (!lane->flying.empty() && driver_.EventQuery(lane->flying.front().copied) == CUDA_SUCCESS)
      return *lane;
  }
  return lanes.to_host.flying.empty() ? lanes.to_device : lanes.to_host;
}

// Copying begins when the first chunk is mapped, and each is mapped while those before
// it are copied: the first are small.
Status Mover::CreateFresh(Flight* flight, bool first) {
  const Relocation& move = *flight->move;
  if (move.whole) {
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
Status Mover::Prepare(Lanes& lanes, Relocation& move, Flight* flight) {
  flight->move = &move;
  flight->bytes = BytesOf(move.from);
  flight->shown.assign(move.windows.size(), {flight->bytes, false, true});
  const bool first = flight->to_host() && lanes.to_host.prepared.empty();
  Status status = CreateFresh(flight, first);
  if (status.ok()) status = MapScratch(lanes, flight->to_host() ? move.from : flight->fresh, flight);
  if (!status.ok()) GiveUp(lanes, *flight, status);
  return status;
}

// To the host: the new chunks take the old ones' place, and then the bytes follow.
void Mover::Launch(Lanes& lanes) {
  Flight flight = std::move(lanes.to_host.prepared.front());
  lanes.to_host.prepared.pop_front();
  Relocation& move = *flight.move;
  move.status = ShowAndCopy(lanes, flight);
  if (move.status.ok()) {
    lanes.to_host.flying.push_back(std::move(flight));
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
  Flight flight = std::move(lane.flying.front());
  lane.flying.pop_front();
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
  std::vector<Chunk> old = move.from;
  Return(*move.source, &old);
}

// Puts the old chunks back where they were, which hold their bytes still. The scratch mapping and, as soon as
// no window shows them, the new chunks go first: their memory may be what mapping needs.
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
}

}  // namespace gpuroom
