// How the C functions answer: a headroom_result, and the sentence that headroom_last_error
// gives this thread.
#pragma once

#include "base/status.h"
#include "headroom/headroom.h"

namespace headroom {

inline constexpr char kNotHere[] = "headroom has no part in this process; start it with headroom run";
inline constexpr char kNothingThere[] = "headroom has placed nothing at that address";

// Notes what failed, if anything, and says which kind it was.
headroom_result Answer(const Status& status);
void ClearError();

}  // namespace headroom
