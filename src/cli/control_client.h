// Asks processes under gpuroom over their control sockets (src/sleep/control_*), all at the same time, and
// turns what goes wrong into one sentence for each. None of them keeps another's answer from being heard.
#pragma once

#include <functional>
#include <vector>

#include "cli/control_targets.h"
#include "sleep/control_message.h"

namespace gpuroom {

struct Answer {
  ControlReply reply;
  Failure failure;  // it could not be asked, or refused
};

struct AskOptions {
  // Milliseconds that all of them have together. -1: as long as they take, while each shows every few seconds
  // that it is alive: it answers a status meanwhile.
  int patience = -1;
  // Called as answers come, with the index of the target.
  std::function<void(size_t, const Answer&)> answered = [](size_t, const Answer&) {};
  // Called once for each where that takes longer than a second.
  std::function<void(size_t)> waiting = [](size_t) {};
};

void AskAll(const std::vector<ControlTarget>& targets, const ControlRequest& request,
            const AskOptions& options);

}  // namespace gpuroom
