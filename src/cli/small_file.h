// Reading a small file that somebody wrote by hand, or that nobody should trust.
#pragma once

#include <string>

#include "base/status.h"

namespace gpuroom {

// All of `path` in *text. Never waits (for the other end of a FIFO, say). kSystem: native() is
// errno; kInvalidArgument: no regular file, or one of more than 1 MiB.
Status ReadSmallFile(const std::string& path, std::string* text);

// What such a Status says, for a sentence: "No such file or directory".
std::string DescribeReadFailure(const Status& status);

}  // namespace gpuroom
