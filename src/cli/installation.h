// Where this command's libraries lie: beside it, in <exe dir>/../lib/gpuroom,
// in an installation and in the build tree alike.
#pragma once

#include <string>

#include "cli/exit_codes.h"

namespace gpuroom {

inline constexpr char kShimName[] = "libgpuroom.so";

struct Installation {
  std::string exe;      // this command
  std::string shim;     // the library to preload
  std::string sim_dir;  // folder with the simulated libcuda.so.1
  std::string demo;     // the sample program of `gpuroom demo`
  std::string plugins;  // folder by which Python programs find the plug-ins for them
};

// Whether this machine can run programs that are built for musl: their loader is installed.
bool HasMuslLoader();

// Paths only; whether the files are there is for CheckInstallation.
Installation FindInstallation();

// The shim is there and the loader can be told of it; with `sim`, the simulated
// driver too.
Failure CheckInstallation(const Installation& installation, bool sim);

}  // namespace gpuroom
