#include "shim/ipc_server.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "base/clock.h"
#include "base/log.h"
#include "base/undo.h"
#include "tier/ledger_owner.h"

namespace headroom::shim {
namespace {

constexpr uint64_t kMillisecond = 1000000;
// How long accepting rests when no descriptor is free.
constexpr uint64_t kAcceptPause = 100 * kMillisecond;
constexpr int kExitMilliseconds = 1000;

IpcServer* g_server = nullptr;  // for the handler at exit
pid_t g_owner = 0;

Status NewTicket(IpcTicket* out) {
  const LedgerOwner owner = CurrentOwner();
  out->pid = static_cast<uint32_t>(getpid());
  out->start = owner.start;
  const bool random =
      getrandom(&out->name, sizeof out->name, 0) == sizeof out->name &&
      getrandom(out->secret.data(), out->secret.size(), 0) == static_cast<ssize_t>(out->secret.size());
  return random ? Status() : Status(Code::kSystem, "getrandom");
}

void LogPins(uint64_t bytes, uint32_t pins) {
  Log(LogLevel::kDebug, "an allocation of %llu MiB is open %u times in other processes",
      static_cast<unsigned long long>(bytes / kMiB), pins);
}

}  // namespace

IpcServer& IpcServer::Get(Runtime& rt) {
  static IpcServer* server = g_server = new IpcServer(rt);
  return *server;
}

Result<CUipcMemHandle> IpcServer::Export(CUdeviceptr address) {
  IpcTicket ticket;
  MutexLock lock(mutex_);
  if (!running_) {
    const Status status = Start();
    if (!status.ok()) return status;
  }
  const bool found = rt_.ranges.With(address, [&](Range& range) {
    MutexLock flags(flags_mutex_);
    range.exported = true;
    ticket = self_;
    ticket.range = range.order;
    ticket.device = HalfOf(rt_.ExistingDevice(range.device)->uuid);
  });
  if (!found) return Status(Code::kNotFound, "no range holds this address");
  return EncodeTicket(ticket);
}

bool IpcServer::IsOwn(const IpcTicket& ticket) {
  MutexLock lock(mutex_);
  return running_ && self_.SameProcess(ticket);
}

Status IpcServer::Start() {
  Status status = NewTicket(&self_);
  if (!status.ok()) return status;
  Result<IpcSocket> listener = IpcSocket::Listen(self_.name);
  if (!listener.ok()) return listener.status();
  listener_ = std::move(*listener);
  g_owner = getpid();
  static const int registered = std::atexit(StopAtExit);
  (void)registered;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  // The thread inherits the mask: none of the program's signals is handled on it.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, Main, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (error != 0) return Status(Code::kSystem, "pthread_create", error);
  running_ = true;
  return Status();
}

void* IpcServer::Main(void* server) {
  pthread_setname_np(pthread_self(), "headroom-ipc");
  static_cast<IpcServer*>(server)->Serve();
  return nullptr;
}

// Drivers do not like calls from other threads while they shut down.
void IpcServer::StopAtExit() {
  if (g_owner != getpid()) return;  // a forked child: the thread is not here
  g_server->stopping_.store(true);
  for (int i = 0; i < kExitMilliseconds && g_server->busy_.load(); ++i) poll(nullptr, 0, 1);
}

int IpcServer::Timeout() const {
  uint64_t first = accept_after_;
  for (const Connection& connection : connections_) {
    if (connection.deadline != 0)
      first = first == 0 ? connection.deadline : std::min(first, connection.deadline);
  }
  if (first == 0) return -1;
  const uint64_t now = NowNanoseconds();
  return first <= now ? 0 : static_cast<int>((first - now) / kMillisecond + 1);
}

void IpcServer::Serve() {
  std::vector<pollfd> polls;
  while (listener_.Intact()) {
    polls.clear();
    polls.push_back({accept_after_ == 0 ? listener_.fd() : -1, POLLIN, 0});
    for (const Connection& connection : connections_) polls.push_back({connection.socket.fd(), POLLIN, 0});
    if (poll(polls.data(), polls.size(), Timeout()) < 0) continue;
    const uint64_t now = NowNanoseconds();
    for (size_t i = 0; i < connections_.size(); ++i) {
      Connection& connection = connections_[i];
      if (!connection.socket.Intact()) {
        // The program closed our descriptor: whether the importer lives is not to be
        // known any more, so the range stays where it is.
        connection.over = true;
      } else if ((polls[i + 1].revents != 0 && !Answer(connection)) ||
                 (connection.deadline != 0 && now >= connection.deadline)) {
        Unpin(connection);
        connection.over = true;
      }
    }
    const auto over = [](const Connection& connection) { return connection.over; };
    connections_.erase(std::remove_if(connections_.begin(), connections_.end(), over), connections_.end());
    if (now >= accept_after_) {
      accept_after_ = 0;
      AcceptAll();
    }
  }
  Log(LogLevel::kWarn, "the program closed a descriptor of headroom's; handles given out so far are void");
  MutexLock lock(mutex_);
  running_ = false;
}

void IpcServer::AcceptAll() {
  for (;;) {
    Result<IpcSocket> socket = listener_.Accept();
    if (socket.ok()) {
      Connection connection;
      connection.socket = std::move(*socket);
      connection.deadline = NowNanoseconds() + kIpcPatience;
      connections_.push_back(std::move(connection));
    } else if (socket.status().code() == Code::kInvalidArgument) {
      Log(LogLevel::kWarn, "a shared allocation was not given out: %s", socket.status().what());
    } else {
      // Full: those who wait for an answer have one, if late.
      if (socket.status().code() == Code::kSystem) accept_after_ = NowNanoseconds() + kAcceptPause;
      return;
    }
  }
}

bool IpcServer::Answer(Connection& connection) {
  unsigned char text[sizeof(CUipcMemHandle)];
  const Result<size_t> length = connection.socket.Receive(text, sizeof text, nullptr, 0);
  if (!length.ok()) return length.status().code() == Code::kBusy;
  if (*length == 0) return false;
  if (connection.deadline == 0) return true;  // it says no more; but while it is there it holds the memory
  if (connection.pinned) {
    return ReadNext(text, *length) == connection.next && SendBatch(connection);
  }
  CUipcMemHandle handle;
  if (*length != sizeof handle) return false;
  std::copy_n(text, sizeof text, reinterpret_cast<unsigned char*>(&handle));
  const Result<IpcTicket> asked = DecodeTicket(handle);
  return asked.ok() && self_.SameProcess(*asked) && Begin(connection, *asked);
}

// Runs `use` on a range, from this thread, as a call of the program's would.
template <typename Use>
bool IpcServer::WithRange(uint64_t order, Use use) {
  busy_.store(true);
  const Undo rest([this] { busy_.store(false); });
  if (stopping_.load()) return false;
  const Entry entry;
  return entry && rt_.ranges.WithOrder(order, use);
}

bool IpcServer::Begin(Connection& connection, const IpcTicket& asked) {
  IpcReply reply;
  bool exported = false;
  uint32_t pins = 0;
  const bool found = WithRange(asked.range, [&](Range& range) {
    MutexLock flags(flags_mutex_);
    if (!range.exported) return;
    exported = true;
    pins = ++range.pins;
    reply = MakeReply(range.requested, range.chunks, rt_.ExistingDevice(range.device)->uuid);
  });
  if (!found || !exported) return false;
  LogPins(reply.requested, pins);
  connection.pinned = true;
  connection.range = asked.range;
  connection.chunks = reply.chunks;
  connection.deadline = NowNanoseconds() + kIpcPatience;
  return connection.socket.Send(&reply, sizeof reply).ok();
}

bool IpcServer::SendBatch(Connection& connection) {
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

Status IpcServer::FillBatch(const Connection& connection, IpcBatch* batch, IpcDescriptors* descriptors) {
  Status status(Code::kNotFound, "finding it");  // freed meanwhile
  WithRange(connection.range, [&](const Range& range) {
    // Whether the driver wants a context for this is not documented.
    CUcontext pushed = range.context;
    const bool push = rt_.driver.CtxPushCurrent(pushed) == CUDA_SUCCESS;
    *batch = MakeBatch(range.chunks, connection.next);
    status = Status();
    for (uint32_t i = 0; i < batch->count && status.ok(); ++i) {
      int fd = -1;
      status =
          DriverStatus(rt_.driver.MemExportToShareableHandle(&fd, range.chunks[connection.next + i].handle,
                                                             CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
                       "cuMemExportToShareableHandle");
      if (!status.ok()) break;
      fcntl(fd, F_SETFD, FD_CLOEXEC);
      descriptors->fds[descriptors->count++] = fd;
    }
    if (push) rt_.driver.CtxPopCurrent(&pushed);
  });
  return status;
}

void IpcServer::Unpin(Connection& connection) {
  if (!connection.pinned) return;
  connection.pinned = false;
  WithRange(connection.range, [](Range& range) { LogPins(range.requested, --range.pins); });
}

}  // namespace headroom::shim
