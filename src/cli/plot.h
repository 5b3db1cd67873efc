// The figure of a benchmark: a script in share/gpuroom beside this command draws it
// from the JSON with matplotlib.
#pragma once

#include <string>

#include "cli/exit_codes.h"

namespace gpuroom {

// Before measuring: a Python with matplotlib is here, `script` is installed, and
// `path` can be written.
Failure CheckPlot(const std::string& path, const std::string& script);

// Draws the results in `json` into `path`, which CheckPlot has found good.
Failure Plot(const std::string& json, const std::string& script, const std::string& path);

}  // namespace gpuroom
