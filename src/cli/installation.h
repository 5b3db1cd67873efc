// Where this command's libraries lie. In an installation and in the build tree
// the command is <prefix>/bin/gpuroom and the libraries are in <prefix>/lib/gpuroom.
// `pip` puts the command into <environment>/bin and everything else inside the
// Python package, which then is the prefix: <site-packages>/gpuroom/_native.
#pragma once

#include <string>
#include <string_view>

#include "cli/exit_codes.h"

namespace gpuroom {

inline constexpr char kShimName[] = "libgpuroom.so";

struct Installation {
  std::string exe;      // this command
  std::string prefix;   // the folder above lib/gpuroom and share/gpuroom
  std::string shim;     // the library to preload
  std::string sim_dir;  // folder with the simulated libcuda.so.1
  std::string demo;     // the sample program of `gpuroom demo`
  std::string plugins;  // folder by which Python programs find the plug-ins for them
};

// Whether this machine can run programs that are built for musl: their loader is installed.
bool HasMuslLoader();

// The prefix of the command `exe`: the folder above its own where the library lies below that, else the
// Python package that `pip` installed with it, else the folder above its own. Of several packages, one for
// each Python, that of `version` counts, which is the command's own.
std::string FindPrefix(const std::string& exe, std::string_view version);

// Paths only; whether the files are there is for CheckInstallation.
Installation FindInstallation();

// The shim is there and the loader can be told of it; with `sim`, the simulated
// driver too.
Failure CheckInstallation(const Installation& installation, bool sim);

}  // namespace gpuroom
