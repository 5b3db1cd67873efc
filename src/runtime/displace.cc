#include "runtime/displace.h"

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "base/log.h"
#include "base/no_memory.h"
#include "base/trace.h"
#include "driver/device_context.h"
#include "driver/in_context.h"
#include "driver/scrap.h"
#include "runtime/intent.h"
#include "runtime/pick.h"

namespace gpuroom {
namespace {

// How long after a displacement nothing is moved back; doubles while data is moved
// to and fro.
constexpr uint64_t kFirstWait = 1000000000;  // nanoseconds
constexpr uint64_t kLongestWait = 60 * kFirstWait;

// A slice that the first unit fills.
constexpr uint64_t kOneUnit = 1;

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

// Whether something that belongs in HBM would come back to `room` bytes of it.
bool AnyReturns(Runtime& rt, CUdevice device, uint64_t room) {
  if (!rt.memory.IndexOf(device).may_have_returners()) return false;
  bool any = false;
  rt.memory.WithIndex(device, [&](PlacedIndex& index) { any = !PickReturns(index, room, kOneUnit).empty(); });
  return any;
}

// One device's part of a slice.
Returned ReturnSliceOf(Runtime& rt, DeviceState& device, uint64_t bytes, uint64_t patience) {
  const CUdevice ordinal = device.tier.device();
  if (!AnyReturns(rt, ordinal, device.source.DeviceFree())) return Returned::kNothing;
  const Standstill standstill(rt, patience);
  if (!standstill.status().ok()) return Returned::kNotNow;
  uint64_t moved = 0;
  rt.memory.WithIndex(ordinal, [&](PlacedIndex& index) {
    std::vector<Part> parts = PickReturns(index, device.source.DeviceFree(), bytes);
    const Status status = MoveParts(rt, device, &parts);
    if (!status.ok()) Log(LogLevel::kInfo, "not all could be moved back: %s", status.what());
    moved = Moved(parts);
  });
  return moved > 0 ? Returned::kSome : Returned::kNothing;
}

// The wait doubles with each move back that was in vain, however much gave way since.
void NoteDisplacement(DeviceState& device) {
  MoveBackState& state = device.move_back;
  const uint64_t now = NowNanoseconds();
  const bool in_vain = now - state.moved_back < 10 * kFirstWait;
  if (!in_vain) {
    state.wait = kFirstWait;
  } else if (!state.was_in_vain.exchange(true)) {
    state.wait = std::clamp(2 * state.wait.load(), kFirstWait, kLongestWait);
  }
  state.not_before = now + state.wait;
}

// No standstill was to be had. Each try holds the program up, so the next waits twice as long.
void WaitForAnother(MoveBackState& state) {
  state.refused = std::clamp(2 * state.refused.load(), kFirstWait, kLongestWait);
  state.not_before = NowNanoseconds() + state.refused;
}

void MoveBackNow(Runtime& rt, DeviceState& device) {
  if (!rt.in_front) return;
  const CUdevice ordinal = device.tier.device();
  if (rt.captures.Any()) return;
  if (NowNanoseconds() < device.move_back.not_before) return;
  const auto room = [&] {
    const uint64_t free = device.source.DeviceFree();
    const uint64_t slack = Slack(device);
    return free > slack ? free - slack : 0;
  };
  if (!AnyReturns(rt, ordinal, room())) return;
  const Standstill standstill(rt, kShortPatience);
  if (!standstill.status().ok()) return WaitForAnother(device.move_back);
  rt.memory.WithIndex(ordinal, [&](PlacedIndex& index) {
    std::vector<Part> parts = PickReturns(index, room());
    const Status status = MoveParts(rt, device, &parts);
    if (!status.ok()) Log(LogLevel::kInfo, "not all could be moved back: %s", status.what());
  });
  device.move_back.moved_back = NowNanoseconds();
  device.move_back.was_in_vain = false;
  device.move_back.refused = 0;
}

void TraceMove(const DeviceState& device, uint64_t start, const std::vector<Part>& parts) {
  if (!Trace::on()) return;
  std::array<uint64_t, 3> moved{};  // bytes, by Tier
  uint64_t failed = 0;
  for (const Part& part : parts) {
    moved[static_cast<size_t>(part.tier)] += part.moved;
    if (!part.status.ok()) ++failed;
  }
  Trace::Add(TraceKind::kMove, device.tier.device(), start, {moved[0], moved[1], moved[2], failed});
}

}  // namespace

Status MoveParts(Runtime& rt, DeviceState& device, std::vector<Part>* parts) {
  if (parts->empty()) return Status();
  RetryScrap();  // it may hold what is missing
  const DeviceContext context(rt.driver, device.tier.device());
  if (!context.status().ok()) {
    for (Part& part : *parts) part.status = context.status();
    return context.status();
  }
  const uint64_t start = NowNanoseconds();
  Mover(rt.driver).Move(context.get(), device.source, parts);
  rt.activity.moves.Add(NowNanoseconds() - start);
  TraceMove(device, start, *parts);
  for (const Part& part : *parts) {
    rt.memory.IndexOf(*part.placed).Update(part.placed);
    device.counts.moved_to[static_cast<size_t>(part.tier)].fetch_add(part.moved, std::memory_order_relaxed);
  }
  if (std::any_of(parts->begin(), parts->end(), [](const Part& part) { return part.lost; }))
    Gate::RefuseForGood();
  for (const Part& part : *parts) {
    if (!part.status.ok()) return part.status;
  }
  return Status();
}

uint64_t Displaceable(Runtime& rt, const DeviceState& device) {
  if (!rt.in_front) return 0;  // what the program launches would not be held back
  uint64_t bytes = 0;
  rt.memory.WithIndex(device.tier.device(), [&](PlacedIndex& index) { bytes = index.giving_bytes(); });
  return bytes;
}

uint64_t Displace(Runtime& rt, DeviceState& device, uint64_t bytes) {
  const uint64_t start = Trace::Now();
  const Standstill standstill(rt);
  if (!standstill.status().ok()) {
    Log(LogLevel::kInfo, "nothing gives way to a request: %s", standstill.status().what());
    return 0;
  }
  const Yield yield = rt.options.policy == Policy::kBalanced ? Yield::kEvenly : Yield::kOldest;
  uint64_t moved = 0;
  rt.memory.WithIndex(device.tier.device(), [&](PlacedIndex& index) {
    for (const bool with_peers : {true, false}) {
      std::vector<Part> parts = PickVictims(index, device.source, bytes - moved, with_peers, yield);
      const Status status = MoveParts(rt, device, &parts);
      if (!status.ok()) Log(LogLevel::kInfo, "large data did not give way: %s", status.what());
      moved += Moved(parts);
      if (moved >= bytes || !PeerWasFull(parts)) break;
    }
  });
  if (moved > 0) NoteDisplacement(device);
  Trace::Add(TraceKind::kGiveWay, device.tier.device(), start, {bytes, moved});
  device.counts.displaced.fetch_add(moved, std::memory_order_relaxed);
  return moved;
}

bool MakeRoomFor(Runtime& rt, DeviceState& device, uint64_t bytes) {
  if (bytes >= device.resident_below || rt.captures.Any()) return false;
  const uint64_t free = !IsLarge(rt, bytes) ? device.tier.budget().free() : device.source.DeviceFree();
  const uint64_t missing = bytes > free ? bytes - free : bytes;
  if (Displaceable(rt, device) < missing) return false;
  // Some more, so that not every small request pays for a standstill.
  return Displace(rt, device, missing + device.source.device_chunk_bytes() / 2) >= missing;
}

Returned ReturnSlice(Runtime& rt, uint64_t bytes, uint64_t patience) {
  const Entry entry;
  if (!entry || !rt.in_front) return Returned::kNothing;
  if (rt.captures.Any()) return Returned::kNotNow;
  Returned result = Returned::kNothing;
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    DeviceState* device = rt.ExistingDevice(i);
    if (device == nullptr) continue;
    const Returned here = ReturnSliceOf(rt, *device, bytes, patience);
    if (here == Returned::kSome || result == Returned::kNothing) result = here;
  }
  return result;
}

void MoveBackAny(Runtime& rt, DeviceState& device) {
  // What was freed is free whatever comes of this.
  const Status status = OrNoMemory([&] {
    MoveBackNow(rt, device);
    return Status();
  });
  if (!status.ok()) Log(LogLevel::kInfo, "nothing was moved back: %s", status.what());
}

}  // namespace gpuroom
