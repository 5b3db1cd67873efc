#include "sleep/control_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "runtime/ipc_socket.h"
#include "sleep/control_directory.h"

namespace gpuroom {
namespace {

constexpr int kBacklog = 16;

Status SystemStatus(const char* what) { return Status(Code::kSystem, what, errno); }

Result<OwnDescriptor> NewSocket() {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return SystemStatus("no descriptor is free; raise the limit of open files (ulimit -n)");
  return OwnDescriptor::Take(fd);
}

// Whether somebody listens under this name; a process that was killed leaves it behind.
bool Answers(const std::string& path) {
  sockaddr_un address;
  const Result<OwnDescriptor> probe = NewSocket();
  if (!probe.ok() || !SocketAddress(path, &address)) return false;
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  return connect(probe->fd(), generic, sizeof address) == 0 || errno == EAGAIN;
}

bool IsOwn(const std::string& path, dev_t device, ino_t inode) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0 && info.st_dev == device && info.st_ino == inode;
}

}  // namespace

bool SocketAddress(const std::string& path, sockaddr_un* out) {
  *out = {};
  out->sun_family = AF_UNIX;
  if (path.size() >= sizeof out->sun_path) return false;
  std::memcpy(out->sun_path, path.data(), path.size());
  return true;
}

Result<ControlSocket> ControlSocket::Listen(const std::string& directory) {
  const Status made = MakeControlDirectory(directory);
  if (!made.ok()) return made;
  ControlSocket socket;
  socket.path_ = ControlSocketPath(directory, getpid());
  // Who lists the folder must not take a socket that does not listen yet for a dead one.
  const std::string fresh = socket.path_ + ".new";
  sockaddr_un address;
  if (!SocketAddress(fresh, &address))
    return Status(Code::kInvalidArgument,
                  "its path is too long for a socket; set GPUROOM_CONTROL_DIR to a shorter one");
  if (Answers(socket.path_)) {
    return Status(Code::kBusy,
                  "a process with the same number in another container uses it; set "
                  "GPUROOM_CONTROL_DIR to a folder of this one's");
  }
  Result<OwnDescriptor> own = NewSocket();
  if (!own.ok()) return own.status();
  unlink(fresh.c_str());
  fchmod(own->fd(), 0600);  // bind() takes the name's mode from it
  if (bind(own->fd(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return SystemStatus("bind");
  struct stat info {};
  const bool ready = chmod(fresh.c_str(), 0600) == 0 && listen(own->fd(), kBacklog) == 0 &&
                     lstat(fresh.c_str(), &info) == 0 && rename(fresh.c_str(), socket.path_.c_str()) == 0;
  if (!ready) {
    const Status status = SystemStatus("a socket cannot be made in it");
    unlink(fresh.c_str());
    return status;
  }
  socket.own_ = std::move(*own);
  socket.device_ = info.st_dev;
  socket.inode_ = info.st_ino;
  return socket;
}

Result<OwnDescriptor> ControlSocket::Accept() const {
  const int fd = accept4(own_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    const bool nobody = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    return nobody ? Status(Code::kNotFound, "nobody is waiting") : SystemStatus("accept");
  }
  Result<OwnDescriptor> made = OwnDescriptor::Take(fd);
  ucred peer{};
  socklen_t length = sizeof peer;
  const bool known = made.ok() && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0;
  if (!made.ok() || (known && MaySharePeer(geteuid(), peer.uid))) return made;
  return Status(Code::kInvalidArgument, "another user's process asked");
}

void ControlSocket::Remove() {
  if (path_.empty()) return;
  if (IsOwn(path_, device_, inode_)) unlink(path_.c_str());
  if (Intact()) shutdown(own_.fd(), SHUT_RDWR);
  path_.clear();
}

}  // namespace gpuroom
