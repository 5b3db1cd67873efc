// Which processes can be asked: the control sockets of this user, and for root of everybody. Whoever may
// write into one of these folders may have put anything there, so nothing is believed but what the kernel
// says of the listener.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "cli/exit_codes.h"

namespace gpuroom {

struct ControlTarget {
  pid_t pid = 0;
  std::string path;  // of its socket
  uid_t owner = 0;   // of the folder that has the socket: the listener has to be this user's
};

enum class Whose {
  kOwn,       // this user's
  kEveryones  // for root: all users'; else as kOwn
};

struct FoundTargets {
  std::vector<ControlTarget> targets;  // by PID, one for each
  std::vector<pid_t> dead;             // processes that live, under whose names nobody listens any more
};

// Waits for nobody. Names under which nobody listens any more are removed.
FoundTargets FindTargets(Whose whose);
// The process with this number. Why it cannot be reached: kExitNoProcess or kExitNotPermitted.
Failure PickTarget(const FoundTargets& found, pid_t pid, ControlTarget* out);

// The sentence for a name under which nobody listens any more.
Failure NobodyAnswers(pid_t pid);

// Whether the process is one that listens, or closed its socket and is about to make it again: it has a
// thread of gpuroom's. False for a zombie, and after an exec.
bool MayListen(pid_t pid);
// Whether who listens at the other end of `fd` is the target itself. kExitNoProcess: another process does, as
// that of another container would. kExitNotPermitted: another user's.
Failure CheckListener(int fd, const ControlTarget& target);

}  // namespace gpuroom
