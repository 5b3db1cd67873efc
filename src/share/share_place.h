// Where the programs of one user and node that share GPUs find their arbiter: names in the folder of the
// control sockets. Each group of programs has an arbiter of its own.
#pragma once

#include <string>

#include "base/status.h"

namespace gpuroom {

inline constexpr char kDefaultShareGroup[] = "default";

struct SharePlace {
  std::string socket;  // on which the arbiter listens
  std::string lock;    // held by the arbiter as long as it lives
  std::string grants;  // what it has granted, for the next one (share_grants.h)
};

// 1 to 32 letters, digits, '-' and '_'.
bool IsShareGroup(const std::string& group);

// Of a group in the first private folder that there is, made where it is missing. Why there is none: as
// MakeControlDirectory.
Result<SharePlace> FindSharePlace(const std::string& group);

}  // namespace gpuroom
