// Small files: reading one that somebody wrote by hand, or that nobody should trust, and replacing one of
// ours.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace gpuroom {

// All of `path` in *text. Never waits (for the other end of a FIFO, say). kSystem: native() is
// errno; kInvalidArgument: no regular file, or one of more than 1 MiB.
Status ReadSmallFile(const std::string& path, std::string* text);

// The same of a file of at most `most` bytes.
Status ReadRegularFile(const std::string& path, uint64_t most, std::string* text);

// What such a Status says, for a sentence: "No such file or directory".
std::string DescribeReadFailure(const Status& status);

// Puts `text` in the place of the file `path`: a reader sees the old file or the new one. False and errno on
// failure, with nothing left behind.
bool ReplaceFile(const std::string& path, const std::string& text, unsigned mode);

}  // namespace gpuroom
