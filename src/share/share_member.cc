#include "share/share_member.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/clock.h"
#include "base/detached_thread.h"
#include "base/log.h"
#include "base/no_memory.h"
#include "driver/uuid.h"
#include "share/run_arbiter.h"
#include "share/share_place.h"
#include "sleep/process.h"

namespace gpuroom {
namespace {

using Verb = ShareMessage::Verb;

constexpr uint64_t kMillisecond = 1000000;  // nanoseconds
// Memory moves out in parts of this size, so that what goes the other way need not wait for the last of it.
constexpr uint64_t kSlice = 512 * kMiB;
// For work in flight on the GPU before memory moves out.
constexpr uint64_t kPatience = 5000 * kMillisecond;
// Until what could not move is tried again, and a lost arbiter is looked for.
constexpr uint64_t kRetry = 100 * kMillisecond;
// Without launches for so long, a program gives its memory to others at once.
constexpr uint64_t kIdleAfter = 100 * kMillisecond;
// How often it is looked whether anything was launched.
constexpr uint64_t kTick = 50 * kMillisecond;
// Of it, so much stays: the next allocation finds it.
constexpr uint64_t kSlack = 256 * kMiB;
// For an arbiter to answer at the beginning; without one the program runs as if it had the GPU alone.
constexpr uint64_t kStartPatience = 10000 * kMillisecond;
constexpr int kStartPause = 10;  // milliseconds
// At exit, for a move that is in progress.
constexpr int kExitMilliseconds = 5000;
// What is asked for is rounded up, so that small allocations do not each ask: to a multiple of this part of
// the limit, between these bounds.
constexpr uint64_t kAskParts = 64;
constexpr uint64_t kMostAskUnit = 64 * kMiB;

std::atomic<ShareMember*> g_member{nullptr};
std::atomic<pid_t> g_starter{0};

void PokeMember() {
  if (ShareMember* member = g_member.load()) member->Poke();
}

void LaunchWaits() {
  if (ShareMember* member = g_member.load()) member->NoteLaunch();
}

void StopAtExit() {
  ShareMember* member = g_member.load();
  if (member != nullptr && g_starter.load() == getpid()) member->Stop(kExitMilliseconds);
}

// As if no other program had the GPUs.
void Alone(Runtime& rt) {
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    if (DeviceState* device = rt.ExistingDevice(i)) device->tier.SetGrant(Budget::kUnlimited);
  }
  rt.hbm_waits.TurnOff();
}

uint64_t LinkOf(const DeviceState& device) {
  for (const TierState& state : device.source.States()) {
    if (state.tier == Tier::kHost) return state.bytes_per_second;
  }
  return 0;
}

}  // namespace

Status ShareMember::Start() {
  return StartDetached("gpuroom-share", [this] { Run(); });
}

void ShareMember::Poke() {
  const uint64_t one = 1;
  const int event = event_.load();
  if (event >= 0) (void)!write(event, &one, sizeof one);
}

void ShareMember::NoteLaunch() {
  if (!launch_waits_.exchange(true)) Poke();
}

void ShareMember::Stop(int milliseconds) {
  stopping_.store(true);
  Poke();
  while (!core_.TryLock()) {
    if (--milliseconds < 0) return;
    poll(nullptr, 0, 1);
  }
  core_.Unlock();
}

void ShareMember::Run() {
  while (!stopping_.load()) {
    const bool connected = Connect();
    {
      MutexLock core(core_);
      if (stopping_.load()) return;
      const Entry rt;
      if (!rt) return;
      if (!connected && !connected_before_) return Alone(*rt);
      const Status status = OrNoMemory([&] {
        Introduce(*rt);
        HearAll(*rt);
        for (; !orders_.empty(); orders_.pop_front()) MoveOut(*rt, orders_.front());
        MoveIn(*rt);
        RetryStuck(*rt);
        GiveBackUnused(*rt);
        AskForMissing(*rt);
        TellWhetherBusy();
        return Status();
      });
      if (!status.ok()) Log(LogLevel::kWarn, "sharing GPUs: %s", status.what());
    }
    WaitForEvents();
  }
}

// False: nobody answers, and nobody could be started.
bool ShareMember::Connect() {
  if (!own_event_.Intact()) {
    Result<OwnDescriptor> event = OwnDescriptor::Take(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (event.ok()) own_event_ = std::move(*event);
    event_.store(own_event_.fd());
  }
  if (socket_.Intact()) return true;
  Lose();
  Status why;
  const uint64_t deadline = NowNanoseconds() + kStartPatience;
  for (bool started = false; NowNanoseconds() < deadline && !stopping_.load();
       poll(nullptr, 0, kStartPause)) {
    const Result<SharePlace> place = FindSharePlace(group_);
    Result<OwnDescriptor> socket = place.ok() ? ConnectTo(place->socket) : place.status();
    if (socket.ok()) {
      socket_ = std::move(*socket);
      break;
    }
    why = socket.status();
    if (why.code() != Code::kNotFound) break;
    if (started) continue;
    // Only one of those that several members start stays.
    const Status begun = StartArbiter(arbiter_, group_);
    if (!begun.ok()) why = begun;
    started = begun.ok();
  }
  if (!socket_.Intact()) {
    if (!connected_before_)
      Log(LogLevel::kWarn, "this program does not share its GPUs: no arbiter can be reached: %s", why.what());
    return false;
  }
  connected_before_ = true;
  busy_ = false;
  ShareMessage join;
  join.verb = Verb::kJoin;
  join.version = kShareVersion;
  join.idle_after = kIdleAfter;
  Say(join);
  return true;
}

// What we hold stays ours: the next arbiter hears of it when we join.
void ShareMember::Lose() {
  socket_.Close();
  orders_.clear();
  for (Gpu& gpu : gpus_)
    SetCounted(gpu, std::max(gpu.device->tier.budget().used(), gpu.device->tier.budget().grant()));
  gpus_.clear();
}

void ShareMember::Introduce(Runtime& rt) {
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    DeviceState* device = rt.ExistingDevice(i);
    const auto known = [&](const Gpu& gpu) { return gpu.device == device; };
    if (device == nullptr || !device->tier.used() || std::any_of(gpus_.begin(), gpus_.end(), known)) continue;
    ShareMessage message;
    message.verb = Verb::kGpu;
    message.uuid = FormatUuid(device->uuid);
    message.limit = device->tier.budget().limit();
    message.link = LinkOf(*device);
    message.awake = message.fixed = device->tier.budget().grant();
    gpus_.push_back({device, message.awake});
    Say(message);
    SayState(rt, gpus_.size() - 1);
  }
}

void ShareMember::HearAll(Runtime& rt) {
  while (socket_.Intact()) {
    const Result<std::string> packet = ReceivePacket(socket_);
    if (packet.status().code() == Code::kBusy) return;
    const Result<ShareMessage> message = packet.ok() ? ParseShareMessage(*packet) : packet.status();
    if (!message.ok()) return socket_.Close();
    Hear(rt, *message);
  }
}

void ShareMember::Hear(Runtime& rt, const ShareMessage& message) {
  if (message.verb == Verb::kNote) Log(LogLevel::kWarn, "sharing GPUs: %s", message.text.c_str());
  if (message.verb == Verb::kRefuse) {
    bool allocations = false;
    for (Gpu& gpu : gpus_) {
      gpu.asked = 0;
      allocations = allocations || rt.hbm_waits.Wanted(gpu.device->tier) > 0;
    }
    // Without them it may be possible.
    refused_ = !allocations;
    rt.hbm_waits.Refuse();
  }
  if (message.gpu >= gpus_.size()) return;
  Gpu& gpu = gpus_[message.gpu];
  if (message.verb == Verb::kOut) orders_.push_back({message.id, message.gpu, message.bytes});
  if (message.verb == Verb::kIn) {
    gpu.asked -= std::min(gpu.asked, message.bytes);
    gpu.arrived += message.bytes;
    gpu.received += message.bytes;
    SetCounted(gpu, gpu.counted + message.bytes);
    rt.hbm_waits.LookAgain();
  }
}

void ShareMember::SetCounted(Gpu& gpu, uint64_t grant) {
  gpu.counted = grant;
  gpu.device->tier.SetGrant(grant);
}

// Nobody claims what falls free below `target` any more: who is about to has left the gate by then.
void ShareMember::Settle(Gpu& gpu, uint64_t target) {
  gpu.device->tier.SetGrant(target);
  if (Gate::Close(kPatience)) Gate::Open();
  gpu.counted = std::max(target, gpu.device->tier.budget().used());
}

// What is granted and not in use goes at once; for the rest memory falls asleep, a part at a time.
void ShareMember::MoveOut(Runtime& rt, const Order& order) {
  Gpu& gpu = gpus_[order.gpu];
  const Budget& budget = gpu.device->tier.budget();
  const uint64_t target = gpu.counted - std::min(gpu.counted, order.bytes);
  const Hold hold = Gate::hold();
  if (hold == Hold::kNone) launch_waits_.store(false);
  Status status;
  if (hold != Hold::kNone && hold != Hold::kAsk) status = Status(Code::kBusy, "the user has put it to sleep");
  uint64_t before = gpu.counted;
  Settle(gpu, target);
  for (uint64_t left = order.bytes; left > 0; before = gpu.counted) {
    SleepRequest request;
    request.rest = SleepAction::kKeep;
    request.hold = Hold::kAsk;
    request.patience = kPatience;
    request.part = {gpu.device->tier.device(),
                    std::max(target, budget.used() - std::min(budget.used(), kSlice))};
    SleepAnswer answer;
    if (status.ok() && gpu.counted > target) status = Sleep(rt, request, &answer);
    gpu.counted = std::max(target, budget.used());
    ShareMessage message;
    message.verb = Verb::kMovedOut;
    message.id = order.id;
    message.bytes = before - std::min(before, gpu.counted);
    const bool last = !status.ok() || message.bytes == 0 || gpu.counted == target;
    message.asked = last ? left : std::min(left, message.bytes);
    left -= message.asked;
    Say(message);
  }
  gpu.stuck_until = gpu.counted > target ? NowNanoseconds() + kRetry : 0;
  SetCounted(gpu, gpu.counted);
  if (gpu.stuck_until == 0) SayState(rt, order.gpu);
  if (!status.ok()) Log(LogLevel::kInfo, "memory does not move out: %s", status.what());
}

// All that fits of what sleeps, where a launch waits for it.
void ShareMember::MoveIn(Runtime& rt) {
  if (launch_waits_.load() && Gate::hold() != Hold::kAsk) launch_waits_.store(false);
  if (launch_waits_.load()) {
    WakeRequest request;
    request.everything = true;
    request.what_fits = !refused_;
    request.lazy = refused_;
    WakeCounts counts;
    const Status status = Wake(rt, request, &counts);
    if (!status.ok()) Log(LogLevel::kInfo, "memory does not move in: %s", status.what());
  }
  refused_ = false;
  for (size_t i = 0; i < gpus_.size(); ++i) {
    if (gpus_[i].arrived == 0) continue;
    ShareMessage message;
    message.verb = Verb::kMovedIn;
    message.gpu = i;
    message.bytes = std::exchange(gpus_[i].arrived, 0);
    Say(message);
  }
}

void ShareMember::RetryStuck(Runtime& rt) {
  for (size_t i = 0; i < gpus_.size(); ++i) {
    if (gpus_[i].stuck_until == 0 || NowNanoseconds() < gpus_[i].stuck_until) continue;
    gpus_[i].stuck_until = 0;
    SayState(rt, i);
  }
}

// What the program freed, where nobody of it waits for more.
void ShareMember::GiveBackUnused(Runtime& rt) {
  for (size_t i = 0; i < gpus_.size(); ++i) {
    Gpu& gpu = gpus_[i];
    const DeviceTier& tier = gpu.device->tier;
    const uint64_t keep = tier.budget().used() + tier.ReserveLeft() + kSlack;
    if (gpu.counted <= keep || gpu.asked != 0 || launch_waits_.load() || rt.hbm_waits.Wanted(tier) != 0)
      continue;
    Settle(gpu, keep);
    SetCounted(gpu, gpu.counted);
    SayState(rt, i);
  }
}

// By whether anything was launched within the last tick. Who waits is busy, as the arbiter knows.
void ShareMember::TellWhetherBusy() {
  const uint64_t now = NowNanoseconds();
  const bool waits = std::any_of(gpus_.begin(), gpus_.end(), [](const Gpu& gpu) { return gpu.asked != 0; });
  if (waits) busy_ = true;
  if (waits || now - watched_ < kTick) return;
  watched_ = now;
  const bool busy = Gate::SubmittedSinceWatch();
  Gate::Watch();
  if (busy == busy_) return;
  busy_ = busy;
  ShareMessage message;
  message.verb = busy ? Verb::kBusy : Verb::kIdle;
  Say(message);
}

// Bytes beyond the grant that all who wait need together.
uint64_t ShareMember::Missing(Runtime& rt, const Gpu& gpu, uint64_t asleep) const {
  const DeviceTier& tier = gpu.device->tier;
  const uint64_t wanted = rt.hbm_waits.Wanted(tier);
  if (wanted + asleep == 0) return 0;
  const uint64_t keep = asleep > 0 ? tier.ReserveLeft() : 0;
  const uint64_t limit = tier.budget().limit();
  const uint64_t unit = std::clamp(RoundUp(limit / kAskParts, kGranularity), kGranularity, kMostAskUnit);
  const uint64_t target = std::min(RoundUp(tier.budget().used() + wanted + asleep + keep, unit), limit);
  return target - std::min(target, gpu.counted);
}

void ShareMember::AskForMissing(Runtime& rt) {
  const bool wakes = launch_waits_.load();
  const std::vector<HbmUse> uses = wakes ? HbmUses(rt) : std::vector<HbmUse>();
  bool changed = false;
  bool any = false;
  for (Gpu& gpu : gpus_) {
    uint64_t asleep = 0;
    for (const HbmUse& use : uses) asleep += use.device == gpu.device->tier.device() ? use.asleep : 0;
    const uint64_t missing = Missing(rt, gpu, asleep);
    changed = changed || missing != gpu.asked;
    any = any || missing != 0;
    gpu.asked = missing;
  }
  if (!changed) return;
  ShareMessage message;
  for (size_t i = 0; i < gpus_.size() && any; ++i) {
    message.verb = Verb::kNeed;
    message.gpu = i;
    message.bytes = gpus_[i].asked;
    Say(message);
    SayState(rt, i);
  }
  message = {};
  message.verb = any ? Verb::kAsk : Verb::kWithdraw;
  Say(message);
}

void ShareMember::SayState(Runtime& rt, size_t number) {
  const Gpu& gpu = gpus_[number];
  uint64_t movable = gpu.counted - std::min(gpu.counted, gpu.device->tier.budget().used());
  for (const HbmUse& use : HbmUses(rt)) movable += use.device == gpu.device->tier.device() ? use.movable : 0;
  ShareMessage message;
  message.verb = Verb::kState;
  message.gpu = number;
  message.awake = gpu.counted;
  message.fixed = gpu.counted - std::min(gpu.counted, movable);
  message.received = gpu.received;
  Say(message);
}

void ShareMember::Say(const ShareMessage& message) {
  // A full socket belongs to an arbiter that is stopped, or is about to end.
  const std::string packet = FormatShareMessage(message);
  Status sent = SendPacket(socket_, packet);
  for (int tries = 0; sent.code() == Code::kBusy && !stopping_.load() && tries < 500; ++tries) {
    poll(nullptr, 0, 10);
    sent = SendPacket(socket_, packet);
  }
  if (!sent.ok()) socket_.Close();
}

void ShareMember::WaitForEvents() {
  const bool stuck =
      std::any_of(gpus_.begin(), gpus_.end(), [](const Gpu& gpu) { return gpu.stuck_until != 0; });
  const uint64_t patience = stuck || !socket_.Intact() ? kRetry : kTick;
  pollfd polls[] = {{own_event_.fd(), POLLIN, 0}, {socket_.fd(), POLLIN, 0}};
  poll(polls, 2, static_cast<int>(patience / kMillisecond));
  uint64_t count = 0;
  if (own_event_.Intact()) (void)!read(own_event_.fd(), &count, sizeof count);
}

void StartSharing() {
  Runtime* rt = Runtime::Existing();
  if (rt == nullptr || !rt->hbm_waits.on()) return;
  const pid_t self = getpid();
  if (g_starter.exchange(self) == self) return PokeMember();
  // Never given back: the process's end takes place beside its thread.
  auto* member = new ShareMember(rt->options.share_group, rt->options.share_arbiter);
  g_member.store(member);
  Gate::AskBy(LaunchWaits);
  rt->hbm_waits.ListenBy(PokeMember);
  static const int registered = std::atexit(StopAtExit);
  (void)registered;
  const Status started = member->Start();
  if (started.ok()) return;
  Log(LogLevel::kWarn, "this program does not share its GPUs: %s", started.what());
  rt->hbm_waits.TurnOff();
}

}  // namespace gpuroom
