// Logging that is safe inside an allocator and a preloaded library: one line is
// formatted in a stack buffer and written with write(2) to standard error. It
// never allocates, takes no lock, keeps errno, and ends no program whose standard error is a broken pipe.
// GPUROOM_LOG chooses the level: off, error, warn (default), info, debug.
#pragma once

namespace gpuroom {

enum class LogLevel : int { kOff = 0, kError, kWarn, kInfo, kDebug };

// Cheap: one relaxed load once the level is known.
bool LogEnabled(LogLevel level);

// printf-style; the line gets the prefix "gpuroom[PID] " and a newline, and is
// cut at 511 bytes. After 200 lines of a process at kWarn or below in
// importance, the rest are dropped with one line that says so. Of these 200, one
// kind of warning (one `format`, a literal) has 20, the last of which says so:
// who can make a process repeat a warning cannot keep others from being seen.
void Log(LogLevel level, const char* format, ...) __attribute__((format(printf, 2, 3)));

// For tests: forget the level read from the environment and the line count.
void ResetLogForTest();

}  // namespace gpuroom
