// Entering the simulated driver: `--sim PROFILE` of every command. Puts
// <directory of this command>/../lib/gpuroom/sim first in LD_LIBRARY_PATH and
// names the profile in GPUROOM_SIM, so that children find libcuda.so.1 and
// libnvidia-ml.so.1 there; and loads both into this process, so that a later
// dlopen of their names finds them already here (the loader reads
// LD_LIBRARY_PATH only at start). Call before the driver is bound and before
// any thread starts, since it changes the environment.
#pragma once

#include <string>

#include "base/status.h"

namespace gpuroom {

// kNotFound: the simulated driver is not installed beside this command;
// kBusy: a libcuda.so.1 was loaded before. Does not check that the profile
// exists: the simulated driver does, at cuInit.
Status EnterSim(const std::string& profile);

}  // namespace gpuroom
