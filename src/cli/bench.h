// `headroom bench`: measurements on this machine. `bench tiers` measures every
// link between the first GPU and the memory that it can use, and keeps the result
// for `headroom run` (link_cache.h).
#pragma once

#include <string>
#include <vector>

namespace headroom {

// `arguments` follow the word bench. Returns an exit status.
int BenchCommand(const std::vector<std::string>& arguments);

}  // namespace headroom
