// `gpuroom top`: the programs under gpuroom and their GPUs, again and again (docs/top.md). What it shows is
// gathered here and printed as text or JSON; the view on a terminal is the Python module gpuroom.top, which
// reads the JSON.
#pragma once

#include <string>
#include <vector>

namespace gpuroom {

// `arguments` follow the word top. Returns an exit status; the view takes this process's place.
int TopCommand(const std::vector<std::string>& arguments);

}  // namespace gpuroom
