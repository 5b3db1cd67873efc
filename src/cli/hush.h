// Keeps what somebody else prints to standard error from being seen: the simulated driver's own sentence,
// where the command has one.
#pragma once

#include <fcntl.h>
#include <unistd.h>

namespace gpuroom {

// Standard error goes nowhere while it lives.
class Hush {
 public:
  Hush() : saved_(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (saved_ >= 0 && nowhere >= 0) dup2(nowhere, STDERR_FILENO);
    if (nowhere >= 0) close(nowhere);
  }
  ~Hush() {
    if (saved_ < 0) return;
    dup2(saved_, STDERR_FILENO);
    close(saved_);
  }
  Hush(const Hush&) = delete;
  Hush& operator=(const Hush&) = delete;

 private:
  int saved_;
};

}  // namespace gpuroom
