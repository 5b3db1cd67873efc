// The variables of gpuroom's in the environment of the command: somebody set each of them, so none may be
// passed over in silence for a slip of the keyboard.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cli/exit_codes.h"

namespace gpuroom {

// Names and values of all that begin with GPUROOM_, known or not, in the environment's order.
std::vector<std::pair<std::string, std::string>> OwnVariables();

// kExitUsage where a variable of gpuroom's is empty, so that the program would run without the limit that was
// meant, or has a value that is none of those it can have. Where a name is unknown and nearly that of a
// variable of ours, one line on standard error says which.
Failure CheckVariables();

}  // namespace gpuroom
