#include "base/write_signals.h"

#include <cerrno>
#include <ctime>

namespace gpuroom {
namespace {

constexpr int kSignals[] = {SIGPIPE, SIGXFSZ};

}  // namespace

WriteSignalsBlocked::WriteSignalsBlocked() {
  sigpending(&pending_before_);
  sigset_t write_signals;
  sigemptyset(&write_signals);
  for (const int signal : kSignals) sigaddset(&write_signals, signal);
  pthread_sigmask(SIG_BLOCK, &write_signals, &mask_before_);
}

WriteSignalsBlocked::~WriteSignalsBlocked() {
  const int saved_errno = errno;
  sigset_t pending;
  sigpending(&pending);
  for (const int signal : kSignals) {
    if (sigismember(&pending, signal) == 0 || sigismember(&pending_before_, signal) != 0) continue;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal);
    const timespec at_once = {0, 0};
    while (sigtimedwait(&one, nullptr, &at_once) < 0 && errno == EINTR) {
    }
  }
  pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
  errno = saved_errno;
}

}  // namespace gpuroom
