#include "runtime/ipc_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/clock.h"

namespace gpuroom {
namespace {

socklen_t AddressOf(uint64_t name, sockaddr_un* out) {
  *out = {};
  out->sun_family = AF_UNIX;
  // sun_path[0] stays 0: abstract.
  const int length = std::snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "gpuroom-%016" PRIx64, name);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<size_t>(length));
}

int NewSocket() { return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

Status SystemStatus(const char* what) { return Status(Code::kSystem, what, errno); }

Status TimedOut() { return Status(Code::kBusy, "the other process did not answer in time"); }

// Until `fd` can be read. False: the deadline has passed.
bool WaitReadable(int fd, uint64_t deadline) {
  for (;;) {
    const uint64_t now = NowNanoseconds();
    if (now >= deadline) return false;
    pollfd wait{fd, POLLIN, 0};
    const int ready = poll(&wait, 1, static_cast<int>((deadline - now) / 1000000 + 1));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

// Room for the descriptors of one batch.
union Control {
  cmsghdr align;
  char bytes[CMSG_SPACE(kIpcBatch * sizeof(int))];
};

void TakeDescriptors(msghdr& message, IpcDescriptors* out) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      if (out != nullptr && out->count < kIpcBatch) {
        out->fds[out->count++] = fd;
      } else {
        close(fd);
      }
    }
  }
}

}  // namespace

bool MaySharePeer(uid_t own, uid_t peer) { return peer == own || peer == 0; }

IpcDescriptors::~IpcDescriptors() {
  for (uint32_t i = 0; i < count; ++i) close(fds[i]);
}

Result<IpcSocket> IpcSocket::Listen(uint64_t name) {
  const int fd = NewSocket();
  if (fd < 0) return SystemStatus("socket");
  Result<OwnDescriptor> own = OwnDescriptor::Take(fd);
  if (!own.ok()) return own.status();
  IpcSocket made(std::move(*own));
  sockaddr_un address;
  const socklen_t length = AddressOf(name, &address);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) return SystemStatus("bind");
  if (listen(fd, 128) != 0) return SystemStatus("listen");
  return made;
}

Result<IpcSocket> IpcSocket::Connect(uint64_t name, uint64_t deadline) {
  const int fd = NewSocket();
  if (fd < 0) return SystemStatus("no descriptor is free; raise the limit of open files (ulimit -n)");
  Result<OwnDescriptor> own = OwnDescriptor::Take(fd);
  if (!own.ok()) return own.status();
  IpcSocket made(std::move(*own));
  sockaddr_un address;
  const socklen_t length = AddressOf(name, &address);
  while (connect(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) {
    if (errno == ECONNREFUSED) return Status(Code::kNotFound, "the exporting process has ended");
    if (errno != EAGAIN && errno != EINTR) return SystemStatus("connect");
    if (NowNanoseconds() >= deadline) return TimedOut();
    poll(nullptr, 0, 2);  // its queue is full
  }
  if (!made.PeerMayShare()) return Status(Code::kInvalidArgument, "the exporter is another user's");
  return made;
}

Result<IpcSocket> IpcSocket::Accept() const {
  const int fd = accept4(own_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    const bool nobody = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    return nobody ? Status(Code::kNotFound, "nobody is waiting") : SystemStatus("accept");
  }
  Result<OwnDescriptor> own = OwnDescriptor::Take(fd);
  if (!own.ok()) return own.status();
  IpcSocket made(std::move(*own));
  if (!made.PeerMayShare()) return Status(Code::kInvalidArgument, "another user's process asked");
  return made;
}

bool IpcSocket::PeerMayShare() const {
  ucred peer{};
  socklen_t length = sizeof peer;
  return getsockopt(fd(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && MaySharePeer(geteuid(), peer.uid);
}

Status IpcSocket::Send(const void* data, size_t size, const IpcDescriptors* descriptors) const {
  iovec part{const_cast<void*>(data), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  Control control{};
  if (descriptors != nullptr && descriptors->count > 0) {
    const size_t bytes = descriptors->count * sizeof(int);
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(rights), descriptors->fds.data(), bytes);
  }
  // One message at a time is under way in each direction: it always fits.
  ssize_t sent = -1;
  do {
    sent = sendmsg(fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(size) ? Status() : SystemStatus("sendmsg");
}

Result<size_t> IpcSocket::Receive(void* data, size_t size, IpcDescriptors* descriptors,
                                  uint64_t deadline) const {
  iovec part{data, size};
  for (;;) {
    msghdr message{};
    Control control{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    const ssize_t got = recvmsg(fd(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got >= 0) {
      TakeDescriptors(message, descriptors);
      if ((message.msg_flags & MSG_TRUNC) != 0) return Status(Code::kInvalidArgument, "too long a message");
      return static_cast<size_t>(got);
    }
    if (errno == EINTR) continue;
    if (errno == ECONNRESET) return size_t{0};
    if (errno != EAGAIN) return SystemStatus("recvmsg");
    if (deadline == 0 || !WaitReadable(fd(), deadline)) return TimedOut();
  }
}

}  // namespace gpuroom
