// How the C functions answer: a gpuroom_result, and the sentence that gpuroom_last_error
// gives this thread.
#pragma once

#include <exception>

#include "base/status.h"
#include "gpuroom/gpuroom.h"

namespace gpuroom {

inline constexpr char kNotHere[] = "gpuroom has no part in this process; start it with gpuroom run";
inline constexpr char kNothingThere[] = "gpuroom has placed nothing at that address";

// Notes what failed, if anything, and says which kind it was.
gpuroom_result Answer(const Status& status);
void ClearError();
// The same for what the C functions catch: out of memory, or else a failure. They catch std::exception alone,
// which is all that this library's code throws: the end of a thread (pthread_cancel, pthread_exit) passes
// them by.
gpuroom_result AnswerException(const std::exception& error);

}  // namespace gpuroom
