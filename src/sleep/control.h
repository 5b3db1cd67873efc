// Control from outside: makes this process one that `gpuroom sleep` reaches.
#pragma once

#include "sleep/control_service.h"

namespace gpuroom {

// Where GPUROOM_CONTROL is 1, and once in a process; a forked child starts its own. What goes
// wrong is a line in the log: the program runs all the same. Any thread.
void StartControl(const ControlCalls& calls);

}  // namespace gpuroom
