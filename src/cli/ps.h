// `headroom ps`: the processes under headroom, and what of their memory is asleep.
#pragma once

#include <string>
#include <vector>

namespace headroom {

// `arguments` follow the word ps. Returns an exit status.
int PsCommand(const std::vector<std::string>& arguments);

}  // namespace headroom
