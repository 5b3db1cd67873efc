#include "instructions.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

namespace gpuroom::bench {
namespace {

// Lets the child go on by `request` until it stops next; false: it ended.
bool Continue(int request, pid_t child, int signal, int* stopped_by) {
  int status = 0;
  if (ptrace(static_cast<__ptrace_request>(request), child, nullptr, signal) != 0) return false;
  if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return false;
  *stopped_by = WSTOPSIG(status);
  return true;
}

// The instructions from one mark to the next. Marks are stops by SIGSTOP; other signals are the child's.
bool CountUntilMark(pid_t child, uint64_t* out) {
  int signal = SIGTRAP;
  for (*out = 0; signal != SIGSTOP; ++*out) {
    if (!Continue(PTRACE_SINGLESTEP, child, signal == SIGTRAP ? 0 : signal, &signal)) return false;
  }
  return true;
}

bool RunToMark(pid_t child) {
  int signal = 0;
  do {
    if (!Continue(PTRACE_CONT, child, signal, &signal)) return false;
  } while (signal != SIGSTOP);
  return true;
}

}  // namespace

bool CountInstructions(const std::function<void(const std::function<void()>& mark)>& program, uint64_t* out) {
  const pid_t child = fork();
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _Exit(1);
    program([] { raise(SIGSTOP); });
    _Exit(0);
  }
  int status = 0;
  // The first stop is the first mark.
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return false;
  const bool marked = WSTOPSIG(status) == SIGSTOP || RunToMark(child);
  const bool counted = marked && CountUntilMark(child, out);
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return counted;
}

}  // namespace gpuroom::bench
