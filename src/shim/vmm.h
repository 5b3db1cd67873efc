// What the hooks of program-made memory share.
#pragma once

#include "runtime/runtime.h"

namespace gpuroom {

// The last mapping of a record is gone, and no reference was left: what cannot be given back now is
// nobody's business but ours.
void GiveBackLater(Runtime& rt, HandleRecord record);

}  // namespace gpuroom
