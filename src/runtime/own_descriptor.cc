#include "runtime/own_descriptor.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>
#include <vector>

namespace gpuroom {
namespace {

struct OpenFile {
  int fd;
  dev_t device;
  ino_t inode;
};

bool StillIs(int fd, dev_t device, ino_t inode) {
  struct stat now {};
  return fd >= 0 && fstat(fd, &now) == 0 && now.st_dev == device && now.st_ino == inode;
}

// All sockets of this process, for a forked child to close. Plain mutex: fork takes
// it in one handler and leaves it in another.
std::mutex g_mutex;
std::vector<OpenFile>& Open() {
  static auto* open = new std::vector<OpenFile>;
  return *open;
}

void BeforeFork() { g_mutex.lock(); }
void AfterForkInParent() { g_mutex.unlock(); }
void AfterForkInChild() {
  for (const OpenFile& file : Open()) {
    if (StillIs(file.fd, file.device, file.inode)) close(file.fd);
  }
  Open().clear();
  g_mutex.unlock();
}

void Remember(const OpenFile& file) {
  static const int registered = pthread_atfork(BeforeFork, AfterForkInParent, AfterForkInChild);
  (void)registered;
  const std::lock_guard lock(g_mutex);
  Open().push_back(file);
}

void Forget(int fd, ino_t inode) {
  const std::lock_guard lock(g_mutex);
  auto& open = Open();
  const auto same = [&](const OpenFile& file) { return file.fd == fd && file.inode == inode; };
  open.erase(std::remove_if(open.begin(), open.end(), same), open.end());
}

}  // namespace

OwnDescriptor::OwnDescriptor(OwnDescriptor&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), device_(other.device_), inode_(other.inode_) {}

OwnDescriptor& OwnDescriptor::operator=(OwnDescriptor&& other) noexcept {
  if (this == &other) return *this;
  Close();
  fd_ = std::exchange(other.fd_, -1);
  device_ = other.device_;
  inode_ = other.inode_;
  return *this;
}

Result<OwnDescriptor> OwnDescriptor::Take(int fd) {
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    const Status status(Code::kSystem, "fstat of a socket", errno);
    close(fd);
    return status;
  }
  OwnDescriptor made;
  made.fd_ = fd;
  made.device_ = info.st_dev;
  made.inode_ = info.st_ino;
  Remember({fd, info.st_dev, info.st_ino});
  return made;
}

bool OwnDescriptor::Intact() const { return StillIs(fd_, device_, inode_); }

void OwnDescriptor::Close() {
  if (fd_ < 0) return;
  if (Intact()) close(fd_);
  Forget(fd_, inode_);  // afterwards: a child forked in between has a copy to close
  fd_ = -1;
}

}  // namespace gpuroom
