#include "sleep/system_calls.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <exception>

#include "base/blocked_signals.h"
#include "base/write_signals.h"

namespace gpuroom {
namespace {

bool StartThread(std::thread* thread, const std::function<void()>& body) {
  const BlockedSignals blocked;
  try {
    *thread = std::thread(body);
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

// Past the limit on file sizes both would end the program by SIGXFSZ.
int Allocate(int fd, int mode, off_t offset, off_t bytes) {
  const WriteSignalsBlocked blocked;
  return fallocate(fd, mode, offset, bytes);
}

ssize_t Write(int fd, const void* data, size_t bytes, off_t offset) {
  const WriteSignalsBlocked blocked;
  return pwrite(fd, data, bytes, offset);
}

}  // namespace

SystemCalls& System() {
  static SystemCalls calls = {
      mmap,
      munmap,
      madvise,
      [](const char* path, int flags, mode_t mode) { return open(path, flags, mode); },
      unlink,
      close,
      [](int fd, int flags) { return fcntl(fd, F_SETFL, flags); },
      Allocate,
      Write,
      pread,
      StartThread,
  };
  return calls;
}

}  // namespace gpuroom
