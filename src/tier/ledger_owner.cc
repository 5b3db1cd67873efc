#include "tier/ledger_owner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace gpuroom {
namespace {

constexpr uint64_t kMix = 0x9e3779b97f4a7c15;

struct ProcessState {
  uint64_t start = 0;
  bool zombie = false;
};

uint64_t OwnerCheck(const LedgerOwner& owner) {
  uint64_t hash = kMix;
  for (const uint64_t value : {owner.pid, owner.start, owner.spaces}) {
    hash = (hash ^ value) * kMix;
    hash ^= hash >> 29;
  }
  return hash;
}

// Returns the start of field `wanted` (counted from 1) of a /proc/PID/stat line,
// or null. Field 2, the name, may hold spaces and brackets of its own.
const char* StatField(const char* line, int wanted) {
  const char* at = std::strrchr(line, ')');
  for (int field = 2; at != nullptr && field < wanted; ++field) {
    at = std::strchr(at + 1, ' ');
  }
  return at == nullptr ? nullptr : at + 1;
}

bool ReadProcess(uint64_t pid, ProcessState* out) {
  // qemu-user answers /proc/<own pid>/stat itself, with a start time that other
  // processes do not see; the second slash takes the path past that.
  char text[1024];
  std::snprintf(text, sizeof text, "/proc//%llu/stat", static_cast<unsigned long long>(pid));
  const int fd = open(text, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0) return false;
  text[length] = '\0';
  const char* state = StatField(text, 3);
  const char* threads = StatField(text, 20);
  const char* start = StatField(text, 22);
  if (state == nullptr || threads == nullptr || start == nullptr) return false;
  // A main thread that left by pthread_exit is a zombie too, beside live threads.
  out->zombie = (*state == 'Z' || *state == 'X') && std::strtoull(threads, nullptr, 10) <= 1;
  out->start = std::strtoull(start, nullptr, 10);
  return true;
}

uint64_t Namespace(uint64_t pid, const char* kind) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%llu/ns/%s", static_cast<unsigned long long>(pid), kind);
  struct stat info;
  return stat(path, &info) == 0 ? static_cast<uint64_t>(info.st_ino) : 0;
}

}  // namespace

LedgerOwner CurrentOwner() { return OwnerOf(static_cast<uint64_t>(getpid())); }

LedgerOwner OwnerOf(uint64_t pid) {
  LedgerOwner owner;
  owner.pid = pid;
  ProcessState state;
  if (ReadProcess(owner.pid, &state)) owner.start = state.start;
  // Start times are comparable only within one time namespace (absent before Linux 5.6).
  const uint64_t pids = Namespace(pid, "pid");
  if (pids != 0) owner.spaces = pids * kMix + Namespace(pid, "time");
  owner.check = OwnerCheck(owner);
  return owner;
}

bool OwnerHasEnded(const LedgerOwner& owner, const LedgerOwner& self) {
  if (owner.check != OwnerCheck(owner) || owner.pid == 0 || owner.pid > INT32_MAX) return false;
  if (owner.spaces == 0 || owner.spaces != self.spaces) return false;
  if (kill(static_cast<pid_t>(owner.pid), 0) != 0 && errno == ESRCH) return true;
  ProcessState state;
  if (!ReadProcess(owner.pid, &state)) return false;
  return state.zombie || (owner.start != 0 && state.start != owner.start);
}

}  // namespace gpuroom
