#include "sleep/process.h"

#include <map>

#include "base/clock.h"
#include "base/trace.h"
#include "driver/in_context.h"
#include "runtime/allocate.h"
#include "sleep/placed_memory.h"
#include "sleep/sleeping_memory.h"

namespace gpuroom {
namespace {

TagVerdict VerdictOn(const SleepRequest& request, TagId tag) {
  for (const SleepRequest::Named& entry : request.tags) {
    if (entry.tag == tag) return entry.verdict;
  }
  return request.rest;
}

// What the driver serves by itself: of no tag that is known.
uint64_t DriversOwn(const Runtime& rt) {
  uint64_t bytes = 0;
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    const DeviceState* device = rt.ExistingDevice(i);
    if (device != nullptr) bytes += device->tier.small_used() + device->managed.budget().used();
  }
  return bytes;
}

bool AnyAsleep(const std::vector<Placed*>& all) {
  return std::any_of(all.begin(), all.end(), [](const Placed* placed) { return !placed->awake(); });
}

uint64_t OnGpus(const Placed& placed) { return BytesOf(placed.chunks) - placed.host_bytes; }

// HBM that a wake of what sleeps takes. Nobody but the engine makes an Asleep.
uint64_t HbmToWake(const Placed& placed) {
  uint64_t bytes = 0;
  for (const Original& original : static_cast<const SleepingMemory&>(*placed.asleep).originals) {
    if (!original.kept && original.chunk.tier == Tier::kDevice) bytes += original.chunk.bytes;
  }
  return bytes;
}

// Whether it is of `part`, which is done once so much of it sleeps.
bool TakePart(const Runtime& rt, const SleepRequest::Part& part, const Placed& placed, uint64_t* taken) {
  const uint64_t bytes = BytesIn(Tier::kDevice, placed.chunks);
  const uint64_t used = rt.ExistingDevice(part.device)->tier.budget().used();
  if (placed.device != part.device || bytes == 0 || used <= part.used + *taken) return false;
  *taken += bytes;
  return true;
}

Status SleepAmong(Runtime& rt, const std::vector<Placed*>& all, const SleepRequest& request,
                  SleepAnswer* answer) {
  Shares<DeviceSleep> shares(rt);
  uint64_t taken = 0;
  for (Placed* placed : all) {
    const TagVerdict verdict = VerdictOn(request, placed->tag);
    if (!verdict || !placed->awake()) continue;
    if (!Sleepable(*placed)) {
      answer->left_awake += OnGpus(*placed);
      continue;
    }
    if (request.part && !TakePart(rt, *request.part, *placed, &taken)) continue;
    DeviceSleep& share = shares.Of(placed->device);
    share.host = &rt.ExistingDevice(placed->device)->host;
    share.items.push_back({placed, placed->dispensable ? SleepAction::kDrop : *verdict});
  }
  if (VerdictOn(request, kUntagged)) answer->left_awake += DriversOwn(rt);
  if (shares.empty()) return Status();
  const Status status = shares.Prepare();
  return status.ok() ? PutToSleep(rt.driver, request.settings, shares.shares(), &answer->counts) : status;
}

// What is asleep of `request`, in its order.
std::vector<Placed*> Sleepers(const std::vector<Placed*>& all, const WakeRequest& request) {
  std::vector<Placed*> sleepers;
  const auto add = [&](auto wanted) {
    std::copy_if(all.begin(), all.end(), std::back_inserter(sleepers),
                 [&](const Placed* placed) { return !placed->awake() && wanted(*placed); });
  };
  if (request.everything) add([](const Placed&) { return true; });
  for (size_t i = 0; i < request.tags.size() && !request.everything; ++i) {
    const auto end = request.tags.begin() + static_cast<ptrdiff_t>(i);
    if (std::find(request.tags.begin(), end, request.tags[i]) != end) continue;
    add([tag = request.tags[i]](const Placed& placed) { return placed.tag == tag; });
  }
  return sleepers;
}

// Of `sleepers`, the first that HBM has room for now.
void KeepWhatFits(Runtime& rt, std::vector<Placed*>* sleepers) {
  std::map<CUdevice, uint64_t> room;
  std::erase_if(*sleepers, [&](const Placed* placed) {
    const auto [at, fresh] = room.try_emplace(placed->device, 0);
    if (fresh) at->second = rt.ExistingDevice(placed->device)->source.DeviceFree();
    const uint64_t bytes = HbmToWake(*placed);
    if (bytes > at->second) return true;
    at->second -= bytes;
    return false;
  });
}

// HBM that is missing for a wake, at most.
struct Missing {
  DeviceState* device;
  uint64_t bytes;
};

std::vector<Missing> MissingFor(const Runtime& rt, const Shares<DeviceWake>& shares,
                                const std::vector<DeviceWake>& wakes) {
  std::vector<Missing> missing;
  for (size_t i = 0; i < wakes.size(); ++i) {
    DeviceState& device = shares.device(i);
    const InContext there(rt.driver, wakes[i].context);
    uint64_t bytes = 0;
    for (const Placed* placed : wakes[i].placed) bytes += BytesOf(*placed);
    const uint64_t free = device.source.DeviceFree();
    if (bytes > free) missing.push_back({&device, bytes - free});
  }
  return missing;
}

// What came of one try.
struct WakeTry {
  WakeCounts counts;
  std::vector<Missing> missing;  // where it lacked memory
  bool on_its_way = false;       // some of it lies in host memory and belongs in HBM
};

Status WakeAmong(Runtime& rt, const std::vector<Placed*>& all, const WakeRequest& request, WakeTry* out) {
  std::vector<Placed*> sleepers = Sleepers(all, request);
  if (request.what_fits) KeepWhatFits(rt, &sleepers);
  if (sleepers.empty()) return Status();
  Shares<DeviceWake> shares(rt);
  for (Placed* placed : sleepers) {
    DeviceWake& share = shares.Of(placed->device);
    share.placed.push_back(placed);
    share.anywhere = request.anywhere;
  }
  Status status = shares.Prepare();
  if (status.ok()) status = WakeUp(rt.driver, request.lazy, shares.shares(), &out->counts);
  if (status.code() == Code::kOutOfMemory) out->missing = MissingFor(rt, shares, *shares.shares());
  // Also what was on its way back from an earlier lazy wake when it was put to sleep.
  out->on_its_way = status.ok() && std::any_of(sleepers.begin(), sleepers.end(), [](const Placed* placed) {
                      return placed->wants_device && placed->host_bytes > 0;
                    });
  return status;
}

// All or nothing, with the memory that is free now.
Status TryWake(Runtime& rt, const WakeRequest& request, WakeTry* out) {
  const Standstill standstill(rt, kSleepPatience);
  if (!standstill.status().ok()) return standstill.status();
  ReclaimRetired(rt);
  Status status;
  *out = {};
  WithAllPlaced(rt, [&](const std::vector<Placed*>& all) {
    status = WakeAmong(rt, all, request, out);
    if (Gate::hold() != Hold::kNone && !AnyAsleep(all)) Gate::SetHold(Hold::kNone);
  });
  return status;
}

// Where programs share GPUs: waits until this one has been granted what the wake takes. A request for what
// there is room for does not wait.
void AwaitGrants(Runtime& rt, const WakeRequest& request) {
  if (!rt.hbm_waits.on() || request.what_fits || request.anywhere) return;
  std::map<CUdevice, uint64_t> needs;
  WithAllPlaced(rt, [&](const std::vector<Placed*>& all) {
    for (const Placed* placed : Sleepers(all, request)) needs[placed->device] += HbmToWake(*placed);
  });
  for (const auto& [device, bytes] : needs) {
    const DeviceTier& tier = rt.ExistingDevice(device)->tier;
    rt.hbm_waits.Await(tier, bytes, tier.ReserveLeft());
  }
}

bool MakeRoom(Runtime& rt, const std::vector<Missing>& missing) {
  uint64_t moved = 0;
  for (const Missing& one : missing) moved += rt.in_front ? Displace(rt, *one.device, one.bytes) : 0;
  return moved > 0;
}

TagState& StateOf(std::vector<TagState>* states, TagId tag) {
  for (TagState& state : *states) {
    if (state.tag == tag) return state;
  }
  states->push_back({tag, 0, 0, 0, {}});
  return states->back();
}

void Count(const Placed& placed, TagState* state) {
  ++state->ranges;
  if (placed.awake()) {
    state->awake += BytesOf(placed);
    state->awake_on_gpu += OnGpus(placed);
    return;
  }
  const AsleepBytes bytes = placed.asleep->Bytes();
  state->asleep.kept += bytes.kept;
  state->asleep.on_disk += bytes.on_disk;
  state->asleep.dropped += bytes.dropped;
}

}  // namespace

Status Sleep(Runtime& rt, const SleepRequest& request, SleepAnswer* answer) {
  const uint64_t start = NowNanoseconds();
  Runtime::WatchExit();
  const Standstill standstill(rt, request.patience);
  if (!standstill.status().ok()) return standstill.status();
  ReclaimRetired(rt);
  Status status;
  WithAllPlaced(rt, [&](const std::vector<Placed*>& all) {
    status = SleepAmong(rt, all, request, answer);
    if (status.ok() && AnyAsleep(all)) Gate::SetHold(request.hold);
  });
  if (!status.ok()) return status;
  rt.activity.sleeps.Add(NowNanoseconds() - start);
  Trace::Add(TraceKind::kSleep, -1, start,
             {answer->counts.kept, answer->counts.on_disk, answer->counts.dropped});
  rt.activity.backed_up.fetch_add(answer->counts.kept + answer->counts.on_disk, std::memory_order_relaxed);
  return status;
}

Status Wake(Runtime& rt, const WakeRequest& request, WakeCounts* counts) {
  const uint64_t start = NowNanoseconds();
  AwaitGrants(rt, request);
  WakeTry last;
  Status status = TryWake(rt, request, &last);
  if (status.code() == Code::kOutOfMemory && DrainRetired(rt)) status = TryWake(rt, request, &last);
  if (status.code() == Code::kOutOfMemory && MakeRoom(rt, last.missing)) status = TryWake(rt, request, &last);
  if (last.on_its_way && rt.in_front) rt.returner.Start(rt);
  *counts = last.counts;
  if (!status.ok()) return status;
  rt.activity.wakes.Add(NowNanoseconds() - start);
  Trace::Add(TraceKind::kWake, -1, start, {counts->restored, counts->on_host, counts->fresh});
  rt.activity.restored.fetch_add(counts->restored - counts->on_host, std::memory_order_relaxed);
  return status;
}

std::vector<HbmUse> HbmUses(Runtime& rt) {
  std::map<CUdevice, HbmUse> uses;
  WithAllPlaced(rt, [&](const std::vector<Placed*>& all) {
    for (const Placed* placed : all) {
      HbmUse& use = uses[placed->device];
      use.device = placed->device;
      if (!placed->awake()) {
        use.asleep += HbmToWake(*placed);
      } else if (Sleepable(*placed)) {
        use.movable += BytesIn(Tier::kDevice, placed->chunks);
        use.outside += placed->wants_device ? placed->host_bytes : 0;
      }
    }
  });
  std::vector<HbmUse> list;
  list.reserve(uses.size());
  for (const auto& [device, use] : uses) list.push_back(use);
  return list;
}

std::vector<TagState> States(Runtime& rt) {
  std::vector<TagState> states;
  WithAllPlaced(rt, [&](const std::vector<Placed*>& all) {
    for (const Placed* placed : all) Count(*placed, &StateOf(&states, placed->tag));
  });
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    const DeviceState* device = rt.ExistingDevice(i);
    const uint64_t small = device == nullptr ? 0 : device->tier.small_used();
    if (small == 0) continue;
    StateOf(&states, kUntagged).awake += small;
    StateOf(&states, kUntagged).awake_on_gpu += small;
  }
  return states;
}

}  // namespace gpuroom
