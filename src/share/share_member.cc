#include "share/share_member.h"

#include <poll.h>
#include <sys/socket.h>
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
#include "share/share_terms.h"
#include "sleep/process.h"

namespace gpuroom {
namespace {

using Verb = ShareMessage::Verb;

// Memory moves out in parts of this size, so that what goes the other way need not wait for the last of it.
constexpr uint64_t kSlice = 512 * kMiB;
// For work in flight on the GPU before memory moves out.
constexpr uint64_t kPatience = 5000 * kMillisecond;
// Until what could not move is tried again, and a lost arbiter is looked for.
constexpr uint64_t kRetry = 100 * kMillisecond;
// How often it is looked whether anything was launched.
constexpr uint64_t kTick = 50 * kMillisecond;
// Wakes that fail so long for want of memory that was granted go on in host memory.
constexpr uint64_t kFailing = 1000 * kMillisecond;
// How often what lies there for want of HBM wishes for some.
constexpr uint64_t kReturn = 2000 * kMillisecond;
// Of what is granted and not used, so much stays: the next allocation finds it.
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
  rt.hbm_waits.SetState(ShareState::kNone);
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

// The program may have closed the descriptor, and the number may be that of another file of its own.
void ShareMember::Poke() {
  MutexLock lock(poking_);
  if (poke_.Intact()) (void)!send(poke_.fd(), "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void ShareMember::KeepPoke() {
  MutexLock lock(poking_);
  int ends[2];
  if (poke_.Intact() && poked_.Intact()) return;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return;
  Result<OwnDescriptor> poke = OwnDescriptor::Take(ends[0]);
  Result<OwnDescriptor> poked = OwnDescriptor::Take(ends[1]);
  if (!poke.ok() || !poked.ok()) return;
  poke_ = std::move(*poke);
  poked_ = std::move(*poked);
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
    KeepPoke();
    const bool connected = Connect();
    {
      MutexLock core(core_);
      if (stopping_.load()) return;
      const Entry rt;
      if (!rt) return;
      if ((!connected && !connected_before_) || rejected_) {
        Alone(*rt);
        refused_ = true;
        if (Gate::hold() == Hold::kAsk) WakeNow(*rt);
        return;
      }
      const Status status = OrNoMemory([&] {
        Introduce(*rt);
        HearAll(*rt);
        for (; !orders_.empty(); orders_.pop_front()) MoveOut(*rt, orders_.front());
        MoveIn(*rt);
        RetryStuck(*rt);
        GiveBackUnused(*rt);
        AskForMissing(*rt);
        TellWhetherBusy();
        WishForReturns(*rt);
        TellState(*rt);
        return Status();
      });
      if (!status.ok()) Log(LogLevel::kWarn, "sharing GPUs: %s", status.what());
    }
    WaitForEvents();
  }
}

// False: nobody answers, and nobody could be started.
bool ShareMember::Connect() {
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
  const ShareTerms terms = ReadShareTerms();
  join.priority = static_cast<uint64_t>(terms.priority);
  join.reserve = terms.reserve;
  join.quantum = terms.quantum;
  join.idle_after = terms.idle_after;
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
  if (message.verb == Verb::kReject) {
    Log(LogLevel::kWarn, "this program does not share its GPUs: %s", message.text.c_str());
    rejected_ = true;
  }
  if (message.verb == Verb::kNote) Log(LogLevel::kWarn, "sharing GPUs: %s", message.text.c_str());
  if (message.verb == Verb::kRefuse) {
    bool allocations = false;
    for (Gpu& gpu : gpus_) {
      gpu.asked = 0;
      allocations = allocations || rt.hbm_waits.Wanted(gpu.device->tier) > 0;
    }
    // Without them it may be possible.
    refused_ = !allocations && launch_waits_.load();
    asks_to_return_ = false;
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
    if (Gate::hold() == Hold::kNone) rt.returner.Start(rt);
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

// All that fits of what sleeps, or all of it wherever there is room.
void ShareMember::WakeNow(Runtime& rt) {
  const uint64_t now = NowNanoseconds();
  const bool anywhere =
      std::exchange(refused_, false) || (fails_since_ != 0 && now - fails_since_ >= kFailing);
  WakeRequest request;
  request.everything = true;
  request.what_fits = !anywhere;
  request.lazy = request.anywhere = anywhere;
  WakeCounts counts;
  const Status status = Wake(rt, request, &counts);
  if (status.ok()) {
    fails_since_ = wake_after_ = 0;
    if (anywhere) return_after_ = now + kReturn;
    return;
  }
  if (fails_since_ == 0) fails_since_ = now;
  wake_after_ = now + kRetry;
  if (anywhere) Log(LogLevel::kWarn, "launches wait: what sleeps has no room to wake: %s", status.what());
}

// Where a launch waits for what sleeps.
void ShareMember::MoveIn(Runtime& rt) {
  if (launch_waits_.load() && Gate::hold() != Hold::kAsk) launch_waits_.store(false);
  if (launch_waits_.load() && NowNanoseconds() >= wake_after_) WakeNow(rt);
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

// For `gpuroom ps`.
void ShareMember::TellState(Runtime& rt) {
  const auto waits = [&](const Gpu& gpu) { return rt.hbm_waits.Wanted(gpu.device->tier) > 0; };
  ShareState state = busy_ ? ShareState::kRuns : ShareState::kIdle;
  if (Gate::hold() == Hold::kAsk) state = ShareState::kOut;
  if (launch_waits_.load() || std::any_of(gpus_.begin(), gpus_.end(), waits)) state = ShareState::kWaits;
  rt.hbm_waits.SetState(state);
}

// What lies in host memory for want of HBM takes what nobody waits for. Where it is most of what the program
// has, that would never come to an end beside busy programs: it asks for its turn, and runs on meanwhile.
void ShareMember::WishForReturns(Runtime& rt) {
  const uint64_t now = NowNanoseconds();
  if (now < return_after_) return;
  return_after_ = now + kReturn;
  asks_to_return_ = false;
  if (!busy_) return;
  for (const HbmUse& use : HbmUses(rt)) {
    asks_to_return_ = asks_to_return_ || use.outside > use.movable;
    for (size_t i = 0; i < gpus_.size() && use.outside > 0; ++i) {
      if (gpus_[i].device->tier.device() != use.device || gpus_[i].asked != 0) continue;
      ShareMessage message;
      message.verb = Verb::kWish;
      message.gpu = i;
      message.bytes = Missing(rt, gpus_[i], use.outside);
      if (message.bytes != 0) Say(message);
    }
  }
}

// Bytes beyond the grant that allocations which wait and `more` bytes need together.
uint64_t ShareMember::Missing(Runtime& rt, const Gpu& gpu, uint64_t more) const {
  const DeviceTier& tier = gpu.device->tier;
  const uint64_t wanted = rt.hbm_waits.Wanted(tier);
  if (wanted + more == 0) return 0;
  const uint64_t keep = more > 0 ? tier.ReserveLeft() : 0;
  const uint64_t limit = tier.budget().limit();
  const uint64_t unit = std::clamp(RoundUp(limit / kAskParts, kGranularity), kGranularity, kMostAskUnit);
  const uint64_t target = std::min(RoundUp(tier.budget().used() + wanted + more + keep, unit), limit);
  return target - std::min(target, gpu.counted);
}

// By GPU, the bytes that launches wait for, and those that are asked back although launches go on without.
std::vector<uint64_t> ShareMember::Away(Runtime& rt) {
  std::vector<uint64_t> away(gpus_.size());
  const bool wakes = launch_waits_.load() && NowNanoseconds() >= wake_after_;
  if (!wakes && !asks_to_return_) return away;
  for (const HbmUse& use : HbmUses(rt)) {
    for (size_t i = 0; i < gpus_.size(); ++i) {
      if (gpus_[i].device->tier.device() != use.device) continue;
      away[i] = (wakes ? use.asleep : 0) + (asks_to_return_ ? use.outside : 0);
    }
  }
  return away;
}

void ShareMember::AskForMissing(Runtime& rt) {
  const std::vector<uint64_t> away = Away(rt);
  bool changed = false;
  bool any = false;
  for (size_t i = 0; i < gpus_.size(); ++i) {
    Gpu& gpu = gpus_[i];
    const uint64_t missing = Missing(rt, gpu, away[i]);
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
  if (!socket_.Intact()) return;
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
  pollfd polls[] = {{poked_.fd(), POLLIN, 0}, {socket_.fd(), POLLIN, 0}};
  poll(polls, 2, static_cast<int>(patience / kMillisecond));
  char pokes[256];
  while (poked_.Intact() && recv(poked_.fd(), pokes, sizeof pokes, MSG_DONTWAIT) == sizeof pokes) {
  }
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
