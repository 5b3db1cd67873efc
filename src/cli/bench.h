// `gpuroom bench`: measurements on this machine.
#pragma once

#include <string>
#include <vector>

namespace gpuroom {

// `arguments` follow the word bench. Returns an exit status.
int BenchCommand(const std::vector<std::string>& arguments);

// And these follow what is measured.
int BenchTiersCommand(const std::vector<std::string>& arguments);
int BenchSleepCommand(const std::vector<std::string>& arguments);

}  // namespace gpuroom
