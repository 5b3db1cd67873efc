#include "share/run_arbiter.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "base/blocked_signals.h"
#include "base/env.h"
#include "share/share_arbiter.h"
#include "share/share_place.h"

namespace gpuroom {
namespace {

// A terminal's signals, and what whoever started us has open, are not ours: who reads a pipe waits until all
// that could write to it have closed it.
void LeaveStarter() {
  setsid();
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd <= 2 && null >= 0; ++fd) dup2(null, fd);
  std::vector<int> open_ones;
  if (DIR* folder = opendir("/proc/self/fd")) {
    while (const dirent* entry = readdir(folder)) open_ones.push_back(std::atoi(entry->d_name));
    closedir(folder);
  }
  for (const int fd : open_ones) {
    if (fd > 2) close(fd);
  }
}

// What is needed to start a program from the memory of another one: nothing here allocates.
struct Launch {
  char* const* words;
  char* const* environment;
  char* stack;  // of the second process: its end
};

int Exec(void* argument) {
  const auto& launch = *static_cast<const Launch*>(argument);
  // The program may ignore or block what ends a process.
  sigset_t none;
  sigemptyset(&none);
  signal(SIGPIPE, SIG_DFL);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execve(launch.words[0], launch.words, launch.environment);
  _exit(127);
}

// Ends at once, so that who it started has no parent among us.
int StartAndLeave(void* argument) {
  const auto& launch = *static_cast<const Launch*>(argument);
  _exit(clone(Exec, launch.stack, CLONE_VM | CLONE_VFORK, argument) < 0 ? 1 : 0);
}

std::string Assignment(const char* name) {
  const char* value = env::Find(name);
  return value == nullptr ? "" : std::string(name) + "=" + value;
}

}  // namespace

Status RunArbiter(const std::string& group) {
  LeaveStarter();
  const Result<SharePlace> place = FindSharePlace(group);
  if (!place.ok()) return place.status();
  Result<ShareLock> lock = ShareLock::Take(place->lock);
  if (!lock.ok()) return lock.status();
  Result<ShareGrants> grants = ShareGrants::Open(place->grants);
  if (!grants.ok()) return grants.status();
  Result<ShareListener> listener = ShareListener::At(place->socket);
  if (!listener.ok()) return listener.status();
  ShareArbiter(std::move(*lock), std::move(*listener), std::move(*grants)).Run();
  return Status();
}

// Both processes use this one's memory until they have execed or ended, as vfork has it: copying the page
// tables of a program of many GiB takes long. Neither sends SIGCHLD, since the first never execs and the
// second is not our child.
Status StartArbiter(const std::string& command, const std::string& group) {
  constexpr size_t kStack = 64 << 10;
  std::string words[] = {command, "arbiter", group};
  char* const pointers[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  std::string variables[] = {Assignment(env::kControlDir), Assignment("XDG_RUNTIME_DIR"),
                             Assignment(env::kLog)};
  char* environment[4] = {};
  size_t count = 0;
  for (std::string& variable : variables) {
    if (!variable.empty()) environment[count++] = variable.data();
  }
  const auto stacks = std::make_unique<char[]>(2 * kStack);
  Launch launch = {pointers, environment, stacks.get() + 2 * kStack};
  const BlockedSignals blocked;
  const pid_t child = clone(StartAndLeave, stacks.get() + kStack, CLONE_VM | CLONE_VFORK, &launch);
  if (child < 0) return Status(Code::kSystem, "clone", errno);
  int status = 0;
  while (waitpid(child, &status, __WALL) < 0 && errno == EINTR) {
  }
  return status == 0 ? Status() : Status(Code::kSystem, "the arbiter cannot be started");
}

}  // namespace gpuroom
