#include "runtime/displace.h"

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "driver/in_context.h"
#include "runtime/device_context.h"
#include "runtime/intent.h"

namespace headroom {
namespace {

// How long after a displacement nothing is moved back; doubles while data is moved
// to and fro.
constexpr uint64_t kFirstWait = 1000000000;  // nanoseconds
constexpr uint64_t kLongestWait = 60 * kFirstWait;

bool MayGiveWay(const Placed& placed) { return placed.hint != Hint::kHot && Movable(placed); }

int Warmth(const Placed& placed) {
  switch (placed.hint) {
    case Hint::kCold: return 0;
    case Hint::kStream: return 1;
    case Hint::kNone: return 2;
    case Hint::kHot: return 3;
  }
  return 3;
}

// Below this, memory is rather a library's workspace than data.
constexpr uint64_t kData = 64 * kMiB;

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
  constexpr uint64_t kWorkspaces = 2 * kData;
  uint64_t pieces = 0;
  for (Placed* placed : by_age) {
    const uint64_t bytes = BytesOf(placed->chunks);
    placed->data = bytes >= kData;
    if (placed->data || !placed->in_pieces) continue;
    pieces += bytes;
    placed->data = pieces > kWorkspaces;
  }
}

// Room in the other tiers, the fastest first.
class Elsewhere {
 public:
  Elsewhere(const ChunkSource& source, bool with_peers) : states_(source.States()) {
    states_.erase(states_.begin());
    std::erase_if(states_, [=](const TierState& state) { return state.tier == Tier::kPeer && !with_peers; });
  }

  // A tier that has room for `bytes`; null if none has.
  TierState* For(uint64_t bytes) {
    for (TierState& state : states_) {
      if (state.free >= bytes) return &state;
    }
    return nullptr;
  }

 private:
  std::vector<TierState> states_;
};

// The chunks of `all` that make up `bytes` of HBM, coldest first.
std::vector<Part> PickVictims(const std::vector<Placed*>& all, const ChunkSource& source, uint64_t bytes,
                              bool with_peers) {
  std::vector<Placed*> victims;
  std::copy_if(all.begin(), all.end(), std::back_inserter(victims),
               [](const Placed* placed) { return MayGiveWay(*placed); });
  std::sort(victims.begin(), victims.end(),
            [](const Placed* a, const Placed* b) { return a->order < b->order; });
  TellData(victims);
  std::sort(victims.begin(), victims.end(), Colder);
  Elsewhere elsewhere(source, with_peers);
  std::vector<Part> parts;
  uint64_t picked = 0;
  for (Placed* victim : victims) {
    for (size_t i = 0; i < victim->chunks.size() && picked < bytes; ++i) {
      const Chunk& chunk = victim->chunks[i];
      if (chunk.tier != Tier::kDevice) continue;
      TierState* to = elsewhere.For(chunk.bytes);
      if (to == nullptr) continue;
      to->free -= chunk.bytes;
      picked += chunk.bytes;
      parts.push_back({victim, i, i + 1, to->tier, to->place, 0, Status()});
    }
  }
  return parts;
}

// The chunks outside HBM of what belongs there, the youngest first, `bytes` at most, and of these no
// more than the one that makes up `slice`.
std::vector<Part> PickReturns(const std::vector<Placed*>& all, uint64_t bytes, uint64_t slice = UINT64_MAX) {
  std::vector<Placed*> away;
  std::copy_if(all.begin(), all.end(), std::back_inserter(away), [](const Placed* placed) {
    return placed->wants_device && Movable(*placed) &&
           BytesIn(Tier::kDevice, *placed) < BytesOf(placed->chunks);
  });
  std::sort(away.begin(), away.end(), [](const Placed* a, const Placed* b) { return Colder(b, a); });
  std::vector<Part> parts;
  for (Placed* placed : away) {
    for (size_t i = 0; i < placed->chunks.size(); ++i) {
      const Chunk& chunk = placed->chunks[i];
      if (chunk.tier == Tier::kDevice) continue;
      if (chunk.bytes > bytes || slice == 0) return parts;
      bytes -= chunk.bytes;
      slice -= std::min(slice, chunk.bytes);
      parts.push_back({placed, i, i + 1, Tier::kDevice, placed->device, 0, Status()});
    }
  }
  return parts;
}

// Had a peer less room than its budget says? It may be that other processes use it.
bool PeerWasFull(const std::vector<Part>& parts) {
  return std::any_of(parts.begin(), parts.end(), [](const Part& part) {
    return part.tier == Tier::kPeer && part.status.code() == Code::kOutOfMemory;
  });
}

uint64_t Moved(const std::vector<Part>& parts) {
  uint64_t moved = 0;
  for (const Part& part : parts) moved += part.moved;
  return moved;
}

// Of HBM that stays free when data is moved back, so that the next request does
// not displace it at once.
uint64_t Slack(const DeviceState& device) {
  const uint64_t chunk = device.source.device_chunk_bytes();
  const uint64_t limit = device.tier.budget().limited() ? device.tier.budget().limit() : 0;
  return std::max(2 * chunk, limit / 32);
}

// One device's part of a slice.
Returned ReturnSliceOf(Runtime& rt, DeviceState& device, uint64_t bytes) {
  // Without a limit the driver says what is free, of the device that is current.
  const OnDevice there(rt.driver, device.tier.device());
  const auto pick = [&](const std::vector<Placed*>& all) {
    return PickReturns(all, device.source.DeviceFree(), bytes);
  };
  bool wanted = false;
  WithPlacedOf(rt, device.tier.device(),
               [&](const std::vector<Placed*>& all) { wanted = !pick(all).empty(); });
  if (!wanted) return Returned::kNothing;
  const Standstill standstill(rt);
  if (!standstill.status().ok()) return Returned::kNotNow;
  uint64_t moved = 0;
  WithPlacedOf(rt, device.tier.device(), [&](const std::vector<Placed*>& all) {
    std::vector<Part> parts = pick(all);
    const Status status = MoveParts(rt, device, &parts);
    if (!status.ok()) Log(LogLevel::kInfo, "not all could be moved back: %s", status.what());
    moved = Moved(parts);
  });
  return moved > 0 ? Returned::kSome : Returned::kNothing;
}

void NoteDisplacement(DeviceState& device) {
  MoveBackState& state = device.move_back;
  const uint64_t now = NowNanoseconds();
  const bool in_vain = now - state.moved_back < 10 * kFirstWait;
  state.wait = in_vain ? std::min(2 * state.wait.load(), kLongestWait) : kFirstWait;
  state.not_before = now + state.wait;
}

}  // namespace

Status MoveParts(Runtime& rt, DeviceState& device, std::vector<Part>* parts) {
  if (parts->empty()) return Status();
  device.builder.RetryScrapped();  // it may hold what is missing
  const DeviceContext context(rt.driver, device.tier.device());
  if (!context.status().ok()) {
    for (Part& part : *parts) part.status = context.status();
    return context.status();
  }
  Mover(rt.driver).Move(context.get(), device.source, parts);
  for (const Part& part : *parts) {
    if (!part.status.ok()) return part.status;
  }
  return Status();
}

uint64_t Displaceable(Runtime& rt, DeviceState& device) {
  uint64_t bytes = 0;
  if (!rt.in_front) return bytes;  // what the program launches would not be held back
  WithPlacedOf(rt, device.tier.device(), [&](const std::vector<Placed*>& all) {
    for (const Placed* placed : all) bytes += MayGiveWay(*placed) ? BytesIn(Tier::kDevice, *placed) : 0;
  });
  return bytes;
}

uint64_t Displace(Runtime& rt, DeviceState& device, uint64_t bytes) {
  const Standstill standstill(rt);
  if (!standstill.status().ok()) {
    Log(LogLevel::kInfo, "nothing gives way to a request: %s", standstill.status().what());
    return 0;
  }
  uint64_t moved = 0;
  WithPlacedOf(rt, device.tier.device(), [&](const std::vector<Placed*>& all) {
    for (const bool with_peers : {true, false}) {
      std::vector<Part> parts = PickVictims(all, device.source, bytes - moved, with_peers);
      const Status status = MoveParts(rt, device, &parts);
      if (!status.ok()) Log(LogLevel::kInfo, "large data did not give way: %s", status.what());
      moved += Moved(parts);
      if (moved >= bytes || !PeerWasFull(parts)) break;
    }
  });
  if (moved > 0) NoteDisplacement(device);
  device.counts.displaced.fetch_add(moved, std::memory_order_relaxed);
  return moved;
}

bool MakeRoomFor(Runtime& rt, DeviceState& device, uint64_t bytes) {
  if (bytes >= rt.options.resident_below || rt.captures.Any()) return false;
  const uint64_t free = !IsLarge(rt, bytes) ? device.tier.budget().free() : device.source.DeviceFree();
  const uint64_t missing = bytes > free ? bytes - free : bytes;
  if (Displaceable(rt, device) < missing) return false;
  // Some more, so that not every small request pays for a standstill.
  return Displace(rt, device, missing + device.source.device_chunk_bytes() / 2) >= missing;
}

Returned ReturnSlice(Runtime& rt, uint64_t bytes) {
  const Entry entry;
  if (!entry || !rt.in_front) return Returned::kNothing;
  if (rt.captures.Any()) return Returned::kNotNow;
  Returned result = Returned::kNothing;
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    DeviceState* device = rt.ExistingDevice(i);
    if (device == nullptr) continue;
    const Returned here = ReturnSliceOf(rt, *device, bytes);
    if (here == Returned::kSome || result == Returned::kNothing) result = here;
  }
  return result;
}

void MoveBack(Runtime& rt, DeviceState& device) {
  if (!rt.in_front) return;
  if (device.host.in_use().used() + device.source.PeerUsed() == 0 || rt.captures.Any()) return;
  if (NowNanoseconds() < device.move_back.not_before) return;
  const auto room = [&] {
    const uint64_t free = device.source.DeviceFree();
    const uint64_t slack = Slack(device);
    return free > slack ? free - slack : 0;
  };
  bool wanted = false;
  WithPlacedOf(rt, device.tier.device(),
               [&](const std::vector<Placed*>& all) { wanted = !PickReturns(all, room()).empty(); });
  if (!wanted) return;
  const Standstill standstill(rt);
  if (!standstill.status().ok()) return;
  WithPlacedOf(rt, device.tier.device(), [&](const std::vector<Placed*>& all) {
    std::vector<Part> parts = PickReturns(all, room());
    const Status status = MoveParts(rt, device, &parts);
    if (!status.ok()) Log(LogLevel::kInfo, "not all could be moved back: %s", status.what());
  });
  device.move_back.moved_back = NowNanoseconds();
}

}  // namespace headroom
