// SystemCalls: the system calls that a sleep and a wake make, in one table, so that
// a test can have each of them fail.
#pragma once

#include <sys/types.h>

#include <functional>
#include <thread>

namespace gpuroom {

// As the system's own, which set errno.
struct SystemCalls {
  void* (*map)(void* address, size_t bytes, int protection, int flags, int fd, off_t offset);
  int (*unmap)(void* address, size_t bytes);
  int (*advise)(void* address, size_t bytes, int advice);
  int (*open)(const char* path, int flags, mode_t mode);
  int (*unlink)(const char* path);
  int (*close)(int fd);
  int (*set_flags)(int fd, int flags);  // fcntl(F_SETFL)
  int (*allocate)(int fd, int mode, off_t offset, off_t bytes);
  ssize_t (*write)(int fd, const void* data, size_t bytes, off_t offset);
  ssize_t (*read)(int fd, void* data, size_t bytes, off_t offset);
  bool (*start_thread)(std::thread* thread, const std::function<void()>& body);  // takes no signals
};

// The table in use. Tests change it while no sleep or wake runs.
SystemCalls& System();

}  // namespace gpuroom
