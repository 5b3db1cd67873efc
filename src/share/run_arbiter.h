// The arbiter as a process: `gpuroom arbiter`, which the library of a program that shares GPUs starts where
// none answers.
#pragma once

#include <string>

#include "base/status.h"

namespace gpuroom {

// Serves a group until its last member has gone, in a session of its own. kBusy: the group has an arbiter.
Status RunArbiter(const std::string& group);

// Starts the program `command` as a process that is nobody's child: the program that we are in hears of no
// child that it does not know. Does not wait for what it does.
Status StartArbiter(const std::string& command, const std::string& group);

}  // namespace gpuroom
