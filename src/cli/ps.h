// `gpuroom ps`: the processes under gpuroom, and what of their memory is asleep.
#pragma once

#include <string>
#include <vector>

namespace gpuroom {

// `arguments` follow the word ps. Returns an exit status.
int PsCommand(const std::vector<std::string>& arguments);

}  // namespace gpuroom
