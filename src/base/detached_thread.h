// A thread of ours in somebody's program: none of its signals' handlers runs there, and the
// program may end while it runs.
#pragma once

#include <functional>

#include "base/status.h"

namespace gpuroom {

// `name` has at most 15 characters.
Status StartDetached(const char* name, std::function<void()> body);

}  // namespace gpuroom
