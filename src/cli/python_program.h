// Finding a Python for what the command leaves to one.
#pragma once

#include <string>

namespace gpuroom {

// The first Python that can import `module`: the one beside this command, where `pip` put both, the first in
// PATH, or the distribution's. "" where none has it.
std::string FindPythonWith(const std::string& module);

}  // namespace gpuroom
