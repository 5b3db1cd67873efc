// The machine around the GPUs of a simulated driver, as files of /proc and /sys: its host memory is the
// profile's, and nothing of the machine that the command runs on is in it.
#pragma once

#include <cstdint>

#include "topology/sysroot.h"

namespace gpuroom {

// Of the simulated driver that this process has entered (sim_exec.h). Empty where it has not.
Sysroot::Files SimulatedMachine();
// All that its host nodes have room for; 0 where there is none.
uint64_t SimulatedHostBytes();

}  // namespace gpuroom
