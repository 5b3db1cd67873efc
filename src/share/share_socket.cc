#include "share/share_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <optional>

#include "runtime/ipc_socket.h"
#include "sleep/control_socket.h"

namespace gpuroom {
namespace {

constexpr int kBacklog = 64;
constexpr size_t kLongestPacket = 4096;

Status SystemStatus(const char* what) { return Status(Code::kSystem, what, errno); }

Result<OwnDescriptor> NewSocket() {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  return fd < 0 ? SystemStatus("socket") : OwnDescriptor::Take(fd);
}

// Nothing where the kernel does not say.
std::optional<ucred> PeerOf(const OwnDescriptor& socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(socket.fd(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return std::nullopt;
  return peer;
}

}  // namespace

Result<ShareLock> ShareLock::Take(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return SystemStatus("open of the group's lock");
  Result<OwnDescriptor> file = OwnDescriptor::Take(fd);
  if (!file.ok()) return file.status();
  if (flock(fd, LOCK_EX | LOCK_NB) != 0)
    return Status(Code::kBusy, "the group has an arbiter already", errno);
  ShareLock lock;
  lock.file_ = std::move(*file);
  lock.path_ = path;
  // It may have been taken away in between.
  return lock.HasName() ? Result<ShareLock>(std::move(lock)) : Take(path);
}

bool ShareLock::HasName() const {
  struct stat own {};
  struct stat named {};
  return fstat(file_.fd(), &own) == 0 && lstat(path_.c_str(), &named) == 0 && own.st_dev == named.st_dev &&
         own.st_ino == named.st_ino;
}

Result<ShareListener> ShareListener::At(const std::string& path) {
  sockaddr_un address;
  const std::string fresh = path + ".new";
  if (!SocketAddress(fresh, &address))
    return Status(Code::kInvalidArgument,
                  "its path is too long for a socket; set GPUROOM_CONTROL_DIR to a shorter one");
  Result<OwnDescriptor> own = NewSocket();
  if (!own.ok()) return own.status();
  unlink(fresh.c_str());
  fchmod(own->fd(), 0600);  // bind() takes the name's mode from it
  struct stat info {};
  const bool ready = bind(own->fd(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                     chmod(fresh.c_str(), 0600) == 0 && listen(own->fd(), kBacklog) == 0 &&
                     lstat(fresh.c_str(), &info) == 0 && rename(fresh.c_str(), path.c_str()) == 0;
  if (!ready) return SystemStatus("a socket cannot be made in the folder of control sockets");
  ShareListener listener;
  listener.socket_ = std::move(*own);
  listener.path_ = path;
  listener.device_ = info.st_dev;
  listener.inode_ = info.st_ino;
  return listener;
}

bool ShareListener::HasName() const {
  struct stat info {};
  return lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_;
}

Result<OwnDescriptor> ConnectTo(const std::string& path) {
  sockaddr_un address;
  if (!SocketAddress(path, &address))
    return Status(Code::kInvalidArgument, "its path is too long for a socket");
  Result<OwnDescriptor> own = NewSocket();
  if (!own.ok()) return own;
  if (connect(own->fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const bool nobody = errno == ENOENT || errno == ECONNREFUSED || errno == EAGAIN;
    return nobody ? Status(Code::kNotFound, "nobody listens") : SystemStatus("connect");
  }
  const std::optional<ucred> peer = PeerOf(*own);
  if (peer && MaySharePeer(geteuid(), peer->uid)) return own;
  return Status(Code::kInvalidArgument, "another user's process answers");
}

Result<OwnDescriptor> AcceptFrom(const OwnDescriptor& listener, ucred* peer) {
  const int fd = accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    const bool nobody = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    return nobody ? Status(Code::kNotFound, "nobody is waiting") : SystemStatus("accept");
  }
  Result<OwnDescriptor> made = OwnDescriptor::Take(fd);
  if (!made.ok()) return made;
  const std::optional<ucred> known = PeerOf(*made);
  if (!known || !MaySharePeer(geteuid(), known->uid))
    return Status(Code::kInvalidArgument, "another user's process connected");
  *peer = *known;
  return made;
}

Status SendPacket(const OwnDescriptor& socket, const std::string& packet) {
  for (;;) {
    if (send(socket.fd(), packet.data(), packet.size(), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return Status();
    if (errno == EINTR) continue;
    return errno == EAGAIN ? Status(Code::kBusy, "the other side does not read")
                           : Status(Code::kNotFound, "the other side is gone");
  }
}

Result<std::string> ReceivePacket(const OwnDescriptor& socket) {
  char packet[kLongestPacket];
  for (;;) {
    const ssize_t got = recv(socket.fd(), packet, sizeof packet, MSG_DONTWAIT);
    if (got > 0) return std::string(packet, static_cast<size_t>(got));
    if (got < 0 && errno == EINTR) continue;
    return got < 0 && errno == EAGAIN ? Status(Code::kBusy, "nothing has come")
                                      : Status(Code::kNotFound, "the other side is gone");
  }
}

}  // namespace gpuroom
