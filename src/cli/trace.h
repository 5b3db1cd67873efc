// `gpuroom trace`: what 'gpuroom run --trace' wrote, for a viewer (docs/trace.md).
#pragma once

#include <string>
#include <vector>

namespace gpuroom {

int TraceCommand(const std::vector<std::string>& arguments);

}  // namespace gpuroom
