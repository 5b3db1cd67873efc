#include "share/share_arbiter.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "base/clock.h"
#include "base/log.h"

namespace gpuroom {
namespace {

// How long an arbiter without members stays: programs that follow each other keep theirs.
constexpr uint64_t kLinger = 1000 * kMillisecond;
// For the members of an arbiter that was killed to join this one.
constexpr uint64_t kRecovery = 2000 * kMillisecond;
// How often it is looked whether the socket still has its name.
constexpr uint64_t kNamePatience = 1000 * kMillisecond;
// For a move that a member was told to make. One whose process is stopped is given up sooner.
constexpr uint64_t kOrderPatience = 60000 * kMillisecond;
constexpr uint64_t kStoppedPatience = 1000 * kMillisecond;
// Of a link whose speed is not known yet, in bytes per second, and at least.
constexpr uint64_t kUnknownLink = uint64_t{1} << 30;
constexpr uint64_t kSlowestLink = uint64_t{16} << 20;
// Smaller moves say little of the link's speed, in bytes.
constexpr uint64_t kTellingMove = uint64_t{16} << 20;
constexpr size_t kMostGpus = 64;

// A descriptor that is readable once the process has ended. None: Linux before 5.3, or another container's.
OwnDescriptor EndOf(uint64_t pid) {
#ifdef SYS_pidfd_open
  const long fd = pid == 0 ? -1 : syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0);
  if (fd >= 0) {
    Result<OwnDescriptor> own = OwnDescriptor::Take(static_cast<int>(fd));
    if (own.ok()) return std::move(*own);
  }
#else
  (void)pid;
#endif
  return {};
}

bool IsStopped(uint64_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return false;
  // The name, in brackets, may hold anything.
  const size_t name = line.rfind(')');
  const char state = name != std::string::npos && name + 2 < line.size() ? line[name + 2] : '?';
  return state == 'T' || state == 't';
}

}  // namespace

ShareArbiter::ShareArbiter(ShareLock lock, ShareListener listener, ShareGrants grants)
    : lock_(std::move(lock)),
      listener_(std::move(listener)),
      grants_(std::move(grants)),
      started_(NowNanoseconds()) {
  RememberGrants();
}

// What such a process has cannot be moved before it joins.
void ShareArbiter::RememberGrants() {
  const uint64_t now = NowNanoseconds();
  for (const ShareGrants::Grant& grant : grants_.Living()) {
    const auto same = [&](const auto& entry) { return entry.second.owner.check == grant.owner.check; };
    auto found = std::find_if(members_.begin(), members_.end(), same);
    if (found == members_.end()) {
      found = members_.emplace(next_member_++, Member()).first;
      found->second.owner = grant.owner;
      found->second.end = EndOf(grant.owner.pid);
      (void)table_.Join(found->first, {}, now);
    }
    const size_t gpu = GpuOf(grant.uuid);
    found->second.gpus.push_back(gpu);
    table_.Report(found->first, gpu, grant.bytes, grant.bytes);
  }
}

void ShareArbiter::Run() {
  for (;;) {
    WaitForEvents();
    if (!lock_.HasName()) return;
    AcceptAll();
    KeepName();
    for (auto& [id, member] : members_) Read(id, member);
    ForgetEnded();
    GiveUpOnStopped();
    Decide();
    for (auto& [id, member] : members_) Flush(id, member);
    const uint64_t now = NowNanoseconds();
    if (!members_.empty()) {
      empty_since_ = 0;
    } else if (empty_since_ == 0) {
      empty_since_ = now;
    } else if (now - empty_since_ >= kLinger) {
      if (listener_.HasName()) unlink(listener_.path().c_str());
      return;
    }
  }
}

int ShareArbiter::Patience() const {
  const uint64_t now = NowNanoseconds();
  uint64_t wait = kNamePatience;
  if (const auto next = table_.NextLook(now)) wait = std::min(wait, *next - now);
  if (Recovers()) wait = std::min(wait, kRecovery / 10);
  const auto moves = [](const auto& entry) { return !entry.second.orders.empty(); };
  if (std::any_of(members_.begin(), members_.end(), moves)) wait = std::min(wait, kStoppedPatience);
  return static_cast<int>(wait / kMillisecond + 1);
}

void ShareArbiter::WaitForEvents() {
  std::vector<pollfd> polls = {{listener_.socket().fd(), POLLIN, 0}};
  for (const auto& [id, member] : members_) {
    const int events = member.unsent.empty() ? POLLIN : POLLIN | POLLOUT;
    polls.push_back({member.socket.fd(), static_cast<short>(events), 0});
    polls.push_back({member.end.fd(), POLLIN, 0});
  }
  poll(polls.data(), polls.size(), Patience());
  size_t at = 2;
  for (auto& [id, member] : members_) {
    member.ended = member.ended || polls[at].revents != 0;
    at += 2;
  }
}

// What cleans folders up (systemd-tmpfiles) takes old names away.
void ShareArbiter::KeepName() {
  if (listener_.HasName()) return;
  Result<ShareListener> fresh = ShareListener::At(listener_.path());
  if (fresh.ok()) listener_ = std::move(*fresh);
}

void ShareArbiter::AcceptAll() {
  for (;;) {
    ucred peer{};
    Result<OwnDescriptor> socket = AcceptFrom(listener_.socket(), &peer);
    if (socket.status().code() == Code::kInvalidArgument) continue;  // another user's
    if (!socket.ok()) return;
    Member& member = members_[next_member_++];
    member.socket = std::move(*socket);
    member.owner = OwnerOf(static_cast<uint64_t>(peer.pid));
    member.end = EndOf(static_cast<uint64_t>(peer.pid));
  }
}

void ShareArbiter::Read(uint64_t id, Member& member) {
  while (member.socket.fd() >= 0) {
    const Result<std::string> packet = ReceivePacket(member.socket);
    if (packet.status().code() == Code::kBusy) return;
    if (!packet.ok()) return Disconnect(id, member);
    const Result<ShareMessage> message = ParseShareMessage(*packet);
    const Status heard = message.ok() ? Hear(id, member, *message) : message.status();
    if (heard.ok()) continue;
    ShareMessage reject;
    reject.verb = ShareMessage::Verb::kReject;
    reject.text = heard.what();
    Send(member, reject);
    Flush(id, member);
    // What comes behind is not heard; unread, it would keep the member from reading why.
    shutdown(member.socket.fd(), SHUT_RD);
    while (ReceivePacket(member.socket).ok()) {
    }
    return Disconnect(id, member);
  }
}

// What it has in HBM stays there: nobody can ask it to move that. A process that ended closes its sockets a
// moment before its end can be seen.
void ShareArbiter::Disconnect(uint64_t id, Member& member) {
  member.socket.Close();
  member.unsent.clear();
  member.ended = member.ended || !member.joined || member.end.fd() < 0;
  if (member.ended) return;
  TakeBackOrders(id, member);
  const uint64_t now = NowNanoseconds();
  table_.Withdraw(id, now);
  table_.SetBusy(id, false, now);
  for (const size_t gpu : member.gpus) table_.Report(id, gpu, table_.awake(id, gpu), table_.awake(id, gpu));
}

void ShareArbiter::Send(Member& member, const ShareMessage& message) {
  member.unsent.push_back(FormatShareMessage(message));
}

void ShareArbiter::Flush(uint64_t id, Member& member) {
  while (!member.unsent.empty()) {
    const Status sent = SendPacket(member.socket, member.unsent.front());
    if (sent.code() == Code::kBusy) return;
    if (!sent.ok()) return Disconnect(id, member);
    member.unsent.pop_front();
  }
}

void ShareArbiter::ForgetEnded() {
  for (auto at = members_.begin(); at != members_.end();) {
    auto& [id, member] = *at;
    if (!member.ended) {
      ++at;
      continue;
    }
    table_.Leave(id);
    for (const size_t gpu : member.gpus) (void)grants_.Set(member.owner, uuids_[gpu], 0);
    at = members_.erase(at);
  }
}

void ShareArbiter::TakeBackOrders(uint64_t id, Member& member) {
  for (const auto& [number, order] : member.orders) table_.MovedOut(id, order.gpu, order.bytes, 0);
  member.orders.clear();
}

// What such a member has counts as fixed until it says otherwise.
void ShareArbiter::GiveUpOnStopped() {
  const uint64_t now = NowNanoseconds();
  for (auto& [id, member] : members_) {
    if (member.orders.empty()) continue;
    const uint64_t age = now - member.orders.begin()->second.since;
    if (age < kOrderPatience && (age < kStoppedPatience || !IsStopped(member.owner.pid))) continue;
    TakeBackOrders(id, member);
    ShareMessage note;
    note.text = "process " + std::to_string(member.owner.pid) +
                " is stopped, or hangs, and keeps its GPU memory; continue or end it";
    for (auto& [other_id, other] : members_) {
      if (!member.told && table_.waiting(other_id)) Send(other, note);
    }
    member.told = true;
  }
}

Status ShareArbiter::Hear(uint64_t id, Member& member, const ShareMessage& message) {
  using Verb = ShareMessage::Verb;
  const uint64_t now = NowNanoseconds();
  if (message.verb == Verb::kJoin) return Join(id, member, message);
  if (!member.joined) return Status(Code::kInvalidArgument, "a member has to join first");
  if (message.verb == Verb::kGpu) {
    if (member.gpus.size() == kMostGpus) return Status(Code::kInvalidArgument, "too many GPUs");
    AddGpu(id, member, message);
    return Status();
  }
  const bool of_gpu = message.verb == Verb::kState || message.verb == Verb::kNeed ||
                      message.verb == Verb::kWish || message.verb == Verb::kMovedIn;
  if (of_gpu && message.gpu >= member.gpus.size())
    return Status(Code::kInvalidArgument, "a GPU that was not named before");
  const size_t gpu = of_gpu ? member.gpus[message.gpu] : 0;
  switch (message.verb) {
    case Verb::kState: State(id, member, message); break;
    case Verb::kNeed: member.needs[message.gpu] = message.bytes; break;
    case Verb::kAsk: Ask(id, member); break;
    case Verb::kWithdraw: table_.Withdraw(id, now); break;
    case Verb::kWish: Wish(id, member, message); break;
    case Verb::kBusy: table_.SetBusy(id, true, now); break;
    case Verb::kIdle: table_.SetBusy(id, false, now); break;
    case Verb::kMovedOut: MovedOut(id, member, message); break;
    case Verb::kMovedIn: table_.MovedIn(id, gpu, message.bytes, now); break;
    default: return Status(Code::kInvalidArgument, "a message that members do not send");
  }
  return Status();
}

Status ShareArbiter::Join(uint64_t id, Member& member, const ShareMessage& message) {
  if (member.joined) return Status(Code::kInvalidArgument, "it has joined already");
  if (message.version != kShareVersion)
    return Status(Code::kUnsupported,
                  "the programs that share GPUs run under different versions of gpuroom; use one for all");
  const uint64_t highest = static_cast<uint64_t>(SharePriority::kInteractive);
  ShareTerms terms = {static_cast<SharePriority>(std::min(message.priority, highest)), message.reserve,
                      message.quantum, message.idle_after};
  Status joined = table_.Join(id, terms, NowNanoseconds());
  if (joined.code() == Code::kOutOfMemory) {
    ShareMessage note;
    note.text = std::string(joined.what()) + "; this one has none";
    Send(member, note);
    terms.reserve = 0;
    joined = table_.Join(id, terms, NowNanoseconds());
  }
  member.joined = joined.ok();
  return joined;
}

void ShareArbiter::AddGpu(uint64_t id, Member& member, const ShareMessage& message) {
  const size_t gpu = GpuOf(message.uuid);
  // Of limits that differ the smallest holds.
  ShareGpu& known = gpus_[gpu];
  if (known.limit == 0 || message.limit < known.limit) known.limit = message.limit;
  // Moves that were made say more.
  if (known.bytes_per_second == kUnknownLink) known.bytes_per_second = std::max(message.link, kUnknownLink);
  table_.ChangeGpu(gpu, known);
  member.gpus.push_back(gpu);
  member.needs.push_back(0);
  member.granted.push_back(0);
  ReplaceSilent(member.owner, gpu);
  table_.Report(id, gpu, message.awake, message.fixed);
}

// A process that was known only by what it had been granted says itself what it has.
void ShareArbiter::ReplaceSilent(const LedgerOwner& owner, size_t gpu) {
  for (auto& [id, member] : members_) {
    if (member.owner.check != owner.check || member.socket.fd() >= 0) continue;
    table_.Report(id, gpu, 0, 0);
    std::erase(member.gpus, gpu);
    member.ended = member.gpus.empty();
  }
}

void ShareArbiter::Ask(uint64_t id, Member& member) {
  std::vector<uint64_t> needs(uuids_.size());
  for (size_t i = 0; i < member.gpus.size(); ++i) needs[member.gpus[i]] += std::exchange(member.needs[i], 0);
  table_.Ask(id, needs, NowNanoseconds());
}

void ShareArbiter::Wish(uint64_t id, Member& member, const ShareMessage& message) {
  const size_t gpu = member.gpus[message.gpu];
  ShareMessage grant;
  grant.verb = ShareMessage::Verb::kIn;
  grant.gpu = message.gpu;
  grant.bytes = table_.TakeFree(id, gpu, message.bytes);
  if (grant.bytes == 0) return;
  member.granted[message.gpu] += grant.bytes;
  NoteGrants();
  Send(member, grant);
}

void ShareArbiter::State(uint64_t id, const Member& member, const ShareMessage& message) {
  const uint64_t granted = member.granted[message.gpu];
  const uint64_t on_its_way = granted - std::min(granted, message.received);
  table_.Report(id, member.gpus[message.gpu], message.awake + on_its_way, message.fixed);
}

void ShareArbiter::MovedOut(uint64_t id, Member& member, const ShareMessage& message) {
  const auto order = member.orders.find(message.id);
  if (order == member.orders.end()) return;  // it was given up
  const uint64_t asked = std::min(message.asked, order->second.bytes);
  table_.MovedOut(id, order->second.gpu, asked, message.bytes);
  member.told = false;
  order->second.bytes -= asked;
  order->second.moved += message.bytes;
  if (order->second.bytes != 0) return;
  NoteSpeed(order->second);
  member.orders.erase(order);
}

// A turn is a multiple of what a move takes: of the moves that were, not of what the link could do.
void ShareArbiter::NoteSpeed(const Order& order) {
  const double seconds = static_cast<double>(NowNanoseconds() - order.since) / 1e9;
  if (order.moved < kTellingMove || seconds <= 0) return;
  ShareGpu& gpu = gpus_[order.gpu];
  const auto speed = static_cast<uint64_t>(static_cast<double>(order.moved) / seconds);
  gpu.bytes_per_second = std::max(gpu.bytes_per_second / 4 * 3 + speed / 4, kSlowestLink);
  table_.ChangeGpu(order.gpu, gpu);
}

// By its UUID; one that is new has no limit yet that anybody could use.
size_t ShareArbiter::GpuOf(const std::string& uuid) {
  const auto found = std::find(uuids_.begin(), uuids_.end(), uuid);
  if (found != uuids_.end()) return static_cast<size_t>(found - uuids_.begin());
  uuids_.push_back(uuid);
  gpus_.push_back({0, kUnknownLink});
  return table_.AddGpu(gpus_.back());
}

// Members of an arbiter that was killed come back within moments. Until they do, nobody is told that what
// they have could never be had.
bool ShareArbiter::Recovers() const {
  const auto silent = [](const auto& entry) { return entry.second.socket.fd() < 0; };
  return NowNanoseconds() - started_ < kRecovery && std::any_of(members_.begin(), members_.end(), silent);
}

void ShareArbiter::Decide() {
  if (Recovers()) return NoteGrants();
  const std::vector<ShareOrder> orders = table_.Decide(NowNanoseconds());
  NoteGrants();  // before anybody hears of them
  for (const ShareOrder& order : orders) {
    Member& member = members_.at(order.member);
    const auto number = std::find(member.gpus.begin(), member.gpus.end(), order.gpu);
    ShareMessage message;
    message.gpu = static_cast<uint64_t>(number - member.gpus.begin());
    message.bytes = order.bytes;
    if (order.kind == ShareOrder::Kind::kOut) {
      message.verb = ShareMessage::Verb::kOut;
      message.id = next_order_++;
      member.orders[message.id] = {order.gpu, order.bytes, 0, NowNanoseconds()};
    } else {
      const bool in = order.kind == ShareOrder::Kind::kIn;
      message.verb = in ? ShareMessage::Verb::kIn : ShareMessage::Verb::kRefuse;
      if (in) member.granted[message.gpu] += order.bytes;
    }
    Send(member, message);
  }
}

void ShareArbiter::NoteGrants() {
  for (const auto& [id, member] : members_) {
    for (const size_t gpu : member.gpus) {
      const Status noted = grants_.Set(member.owner, uuids_[gpu], table_.awake(id, gpu));
      if (!noted.ok()) Log(LogLevel::kWarn, "%s", noted.what());
    }
  }
}

}  // namespace gpuroom
