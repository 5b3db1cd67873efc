// Asks processes under gpuroom over their control sockets (src/sleep/control_*): finds
// them, connects, checks who answers, and turns what goes wrong into one sentence.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "cli/exit_codes.h"
#include "sleep/control_message.h"

namespace gpuroom {

struct ControlTarget {
  pid_t pid = 0;
  std::string path;  // of its socket
};

enum class Whose {
  kOwn,       // this user's
  kEveryones  // for root: all users'; else as kOwn
};

// The sockets that are there, by PID. Names that dead processes left behind are removed.
std::vector<ControlTarget> FindTargets(Whose whose);
// The process with this number. Why it cannot be reached: kExitNoProcess or kExitNotPermitted.
Failure FindTarget(pid_t pid, ControlTarget* out);

// Takes a name away under which nobody has answered for a while.
void RemoveName(const ControlTarget& target);

struct AskOptions {
  int patience = -1;              // milliseconds for the answer; -1: as long as it takes
  std::function<void()> waiting;  // called once where that takes longer than a second
};

// Fills `reply` where the process answered; what it answered may be a refusal (FailureOf).
Failure Ask(const ControlTarget& target, const ControlRequest& request, const AskOptions& options,
            ControlReply* reply);
// What a process's refusal is to the command: an exit status, and its sentence with what to do.
Failure FailureOf(const ControlTarget& target, const ControlRequest& request, const ControlReply& reply);

}  // namespace gpuroom
