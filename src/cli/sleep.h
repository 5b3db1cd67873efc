// `gpuroom sleep`, `gpuroom wake` and `gpuroom hint`: ask processes under gpuroom to give their GPU memory
// back, to take it again, and to treat it otherwise from now on.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "cli/exit_codes.h"
#include "sleep/control_message.h"

namespace gpuroom {

struct ControlOptions {
  std::vector<pid_t> pids;
  bool all = false;  // every process of this user
  bool json = false;
  bool help = false;
  ControlRequest request;
};

// `arguments` follow the command's word.
Failure ParseSleep(const std::vector<std::string>& arguments, ControlOptions* options);
Failure ParseWake(const std::vector<std::string>& arguments, ControlOptions* options);
Failure ParseHintCommand(const std::vector<std::string>& arguments, ControlOptions* options);

int SleepCommand(const std::vector<std::string>& arguments);
int WakeCommand(const std::vector<std::string>& arguments);
int HintCommand(const std::vector<std::string>& arguments);

}  // namespace gpuroom
