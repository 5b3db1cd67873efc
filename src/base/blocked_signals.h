// BlockedSignals: while one lives, this thread takes no signals. Threads that are
// made meanwhile inherit that, so that none of the program's handlers runs on them.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace gpuroom {

class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_;
};

}  // namespace gpuroom
