// A file descriptor that is closed at the end.
#pragma once

#include <unistd.h>

namespace gpuroom {

struct Descriptor {
  explicit Descriptor(int taken) : fd(taken) {}
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int fd;  // -1: none
};

}  // namespace gpuroom
