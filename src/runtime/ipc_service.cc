#include "runtime/ipc_service.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "base/clock.h"
#include "base/log.h"
#include "base/undo.h"
#include "driver/in_context.h"

namespace gpuroom {
namespace {

// How long accepting rests when no descriptor is free.
constexpr uint64_t kAcceptPause = 100 * kMillisecond;
// Clients that have not shown a valid handle, and how many are taken before those that are there are heard.
constexpr std::ptrdiff_t kMostNewcomers = 32;
constexpr int kMostAtOnce = 32;
constexpr int kExitMilliseconds = 1000;

std::atomic<bool> g_stopping{false};
std::atomic<int> g_busy{0};  // threads that may be in a driver call
std::atomic<pid_t> g_owner{0};

void LogPins(uint64_t bytes, uint32_t pins) {
  Log(LogLevel::kDebug, "an allocation of %llu MiB is open %u times in other processes",
      static_cast<unsigned long long>(bytes / kMiB), pins);
}

}  // namespace

void IpcService::StopAll() {
  if (g_owner.load() != getpid()) return;  // a forked child: the thread is not here
  g_stopping.store(true);
  for (int i = 0; i < kExitMilliseconds && g_busy.load() > 0; ++i) poll(nullptr, 0, 1);
}

Result<IpcTicket> IpcService::Export(CUdeviceptr address) {
  IpcTicket ticket = self_;
  const bool found = rt_.ranges.With(address, [&](Range& range) {
    range.offered = true;
    ticket.range = range.order;
    ticket.offset = range.shared ? address - range.va : 0;
    ticket.device = HalfOf(rt_.ExistingDevice(range.device)->uuid);
  });
  if (!found) return Status(Code::kNotFound, "no range holds this address");
  return ticket;
}

int IpcService::Timeout() const {
  uint64_t first = accept_after_;
  for (const Connection& connection : connections_) {
    const uint64_t deadline = connection.deadline;
    if (deadline != 0) first = first == 0 ? deadline : std::min(first, deadline);
  }
  if (first == 0) return -1;
  const uint64_t now = NowNanoseconds();
  return first <= now ? 0 : static_cast<int>((first - now) / kMillisecond + 1);
}

void IpcService::Run() {
  g_owner.store(getpid());
  std::vector<pollfd> polls;
  for (bool listening = true; listening || !connections_.empty(); listening = Listening()) {
    polls.clear();
    polls.push_back({listening && accept_after_ == 0 ? listener_.fd() : -1, POLLIN, 0});
    for (const Connection& connection : connections_) polls.push_back({connection.socket.fd(), POLLIN, 0});
    if (poll(polls.data(), polls.size(), Timeout()) < 0) continue;
    const uint64_t now = NowNanoseconds();
    for (size_t i = 0; i < connections_.size(); ++i) Attend(connections_[i], polls[i + 1].revents != 0, now);
    const auto over = [](const Connection& connection) { return connection.over; };
    connections_.erase(std::remove_if(connections_.begin(), connections_.end(), over), connections_.end());
    if (now >= accept_after_ && Listening()) {
      accept_after_ = 0;
      AcceptAll();
    }
  }
}

void IpcService::Attend(Connection& connection, bool readable, uint64_t now) {
  if (!connection.socket.Intact()) {
    // The program closed our descriptor: whether the importer lives is not to be
    // known any more, so the range stays where it is.
    connection.over = true;
    return;
  }
  const bool late = connection.deadline != 0 && now >= connection.deadline;
  if (!late && (!readable || Answer(connection))) return;
  Unpin(connection);
  connection.over = true;
}

// Makes room for a new client: the one that has been silent longest gives way.
void IpcService::DropOldestNewcomer() {
  const auto newcomer = [](const Connection& connection) { return !connection.pinned; };
  if (std::count_if(connections_.begin(), connections_.end(), newcomer) < kMostNewcomers) return;
  connections_.erase(std::find_if(connections_.begin(), connections_.end(), newcomer));
}

void IpcService::AcceptAll() {
  for (int taken = 0; taken < kMostAtOnce; ++taken) {
    Result<IpcSocket> socket = listener_.Accept();
    if (socket.ok()) {
      DropOldestNewcomer();
      Connection connection;
      connection.socket = std::move(*socket);
      connection.deadline = NowNanoseconds() + kIpcPatience;
      connections_.push_back(std::move(connection));
    } else if (socket.status().code() == Code::kInvalidArgument) {
      Log(LogLevel::kWarn, "a shared allocation was not given out: %s", socket.status().what());
    } else {
      // No descriptor is free: who waits will have an answer, if late.
      if (socket.status().code() == Code::kSystem) accept_after_ = NowNanoseconds() + kAcceptPause;
      return;
    }
  }
}

bool IpcService::Answer(Connection& connection) {
  CUipcMemHandle message;  // the longest that an importer sends
  const Result<size_t> length = connection.socket.Receive(&message, sizeof message, nullptr, 0);
  if (!length.ok() && length.status().code() == Code::kBusy) return true;
  if (length.ok() && *length == 0) return false;
  // With all that it asked for, it has no more to say; but as long as it is there it
  // holds the memory.
  if (connection.pinned && connection.deadline == 0) return true;
  if (!length.ok()) return false;
  if (connection.pinned) return ReadNext(&message, *length) == connection.next && SendBatch(connection);
  if (*length != sizeof message) return false;
  const Result<IpcTicket> asked = DecodeTicket(message);
  return asked.ok() && self_.SameProcess(*asked) && Begin(connection, *asked);
}

// Runs `use` on a range, from this thread, as a call of the program's would.
template <typename Use>
bool IpcService::WithRange(uint64_t order, Use use) {
  g_busy.fetch_add(1);
  const Undo rest([] { g_busy.fetch_sub(1); });
  if (g_stopping.load()) return false;
  const Entry entry;
  return entry && rt_.ranges.WithOrder(order, use);
}

bool IpcService::Begin(Connection& connection, const IpcTicket& asked) {
  IpcReply reply;
  WithRange(asked.range, [&](Range& range) {
    if (!range.offered || !range.awake()) return;  // what sleeps has nothing to hand out
    RangeInfo info = range.Info();
    const CUdeviceptr block = range.va + asked.offset;
    if (range.shared && (!rt_.small_blocks.Narrow(block, &info) || info.va != block)) return;  // freed
    LogPins(info.requested, ++range.pins);
    connection.pinned = true;
    reply = MakeReply(info.requested, range.chunks, rt_.ExistingDevice(range.device)->uuid);
  });
  if (!connection.pinned) return false;
  connection.range = asked.range;
  connection.chunks = reply.chunks;
  connection.deadline = NowNanoseconds() + kIpcPatience;
  return connection.socket.Send(&reply, sizeof reply).ok();
}

bool IpcService::SendBatch(Connection& connection) {
  IpcBatch batch;
  IpcDescriptors descriptors;
  Status status = FillBatch(connection, &batch, &descriptors);
  if (status.ok()) status = connection.socket.Send(&batch, sizeof batch, &descriptors);
  if (!status.ok()) {
    Log(LogLevel::kWarn, "an allocation could not be given to another process: %s failed (%d)", status.what(),
        status.native());
    return false;
  }
  connection.next += batch.count;
  connection.deadline = connection.next == connection.chunks ? 0 : NowNanoseconds() + kIpcPatience;
  return true;
}

Status IpcService::FillBatch(const Connection& connection, IpcBatch* batch, IpcDescriptors* descriptors) {
  Status status(Code::kNotFound, "finding it");  // freed meanwhile
  WithRange(connection.range, [&](Range& range) {
    status = Status();
    // Whether the driver wants a context for this is not documented.
    const InContext there(rt_.driver, range.context);
    *batch = MakeBatch(range.chunks, connection.next);
    for (uint32_t i = 0; i < batch->count && status.ok(); ++i) {
      int fd = -1;
      status =
          DriverStatus(rt_.driver.MemExportToShareableHandle(&fd, range.chunks[connection.next + i].handle,
                                                             CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
                       "cuMemExportToShareableHandle");
      if (!status.ok()) break;
      range.chunks[connection.next + i].exported = true;
      fcntl(fd, F_SETFD, FD_CLOEXEC);
      descriptors->fds[descriptors->count++] = fd;
    }
  });
  return status;
}

void IpcService::Unpin(Connection& connection) {
  if (!connection.pinned) return;
  connection.pinned = false;
  WithRange(connection.range, [](Range& range) { LogPins(range.requested, --range.pins); });
}

}  // namespace gpuroom
