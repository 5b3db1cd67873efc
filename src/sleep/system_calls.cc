#include "sleep/system_calls.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <system_error>

#include "base/blocked_signals.h"

namespace gpuroom {
namespace {

bool StartThread(std::thread* thread, const std::function<void()>& body) {
  const BlockedSignals blocked;
  try {
    *thread = std::thread(body);
  } catch (const std::system_error&) {
    return false;
  }
  return true;
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
      fallocate,
      pwrite,
      pread,
      StartThread,
  };
  return calls;
}

}  // namespace gpuroom
