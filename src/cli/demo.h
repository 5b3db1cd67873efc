// `gpuroom demo`: runs the sample program (samples/demo) as `gpuroom run`
// would run any program, with 1.75 times the HBM to allocate. Chooses the
// simulated driver where there is no GPU, and says so.
#pragma once

#include <string>
#include <vector>

namespace gpuroom {

// `arguments` follow the word demo. Returns an exit status, or becomes the
// sample program and does not return.
int DemoCommand(const std::vector<std::string>& arguments);

}  // namespace gpuroom
