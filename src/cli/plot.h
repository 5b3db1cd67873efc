// The figure of `headroom bench tiers`: share/headroom/plot_tiers.py beside this
// command draws it from the JSON with matplotlib.
#pragma once

#include <string>

#include "cli/exit_codes.h"

namespace headroom {

// Before measuring: a Python with matplotlib is here, the script is installed, and
// `path` can be written.
Failure CheckPlot(const std::string& path);

// Draws the results in `json` into `path`, which CheckPlot has found good.
Failure Plot(const std::string& json, const std::string& path);

}  // namespace headroom
