// Whether what a command printed to standard output has arrived: a full disk shows only when the buffer is
// written.
#pragma once

#include "cli/exit_codes.h"

namespace gpuroom {

// Writes what standard output still holds. kExitFailed, with a sentence, where that or anything before it
// could not be written.
Failure FlushOutput();

// The sentence for output that could not be written, `error` being its errno; 0: not known.
Failure UnwrittenOutput(int error);

}  // namespace gpuroom
