// WriteSignalsBlocked: while one lives, a write of this thread that fails does so with an error code alone.
// The kernel also sends SIGPIPE where nobody reads a pipe any more, and SIGXFSZ past the limit on file sizes
// (ulimit -f), and both end a program that does not handle them. For the library's own writes in somebody's
// program: those two signals are blocked, and one that a write caused is taken back. Keeps errno.
//
// A signal that was pending before, or is the program's own doing, stays. Costs four system calls, and one
// more where a write failed.
#pragma once

#include <signal.h>

namespace gpuroom {

class WriteSignalsBlocked {
 public:
  WriteSignalsBlocked();
  ~WriteSignalsBlocked();
  WriteSignalsBlocked(const WriteSignalsBlocked&) = delete;
  WriteSignalsBlocked& operator=(const WriteSignalsBlocked&) = delete;

 private:
  sigset_t mask_before_;
  sigset_t pending_before_;
};

}  // namespace gpuroom
