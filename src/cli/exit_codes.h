// What the command's exit status means (docs/cli.md has the same table), and
// the one way errors are told: `gpuroom: <sentence>` on standard error.
#pragma once

#include <string>
#include <string_view>

namespace gpuroom {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;         // a check or the demo failed
inline constexpr int kExitUsage = 2;          // bad usage or bad input
inline constexpr int kExitNoDriver = 3;       // no usable GPU or driver
inline constexpr int kExitNoProcess = 4;      // no such process, or it is not under gpuroom
inline constexpr int kExitNotPermitted = 5;   // another user's process
inline constexpr int kExitOutOfMemory = 6;    // no room to sleep or to wake
inline constexpr int kExitInterrupted = 130;  // Ctrl-C ended a measurement, or the waiting for a process
inline constexpr int kExitCannotRun = 126;    // CMD is there and cannot be run under gpuroom
inline constexpr int kExitNotFound = 127;     // CMD was not found

// A command's failure before it has done anything: an exit status and the
// sentence for it. A default one is success.
struct Failure {
  int exit_code = kExitOk;
  std::string text;

  bool failed() const { return exit_code != kExitOk; }
};

// `text` with '?' for control characters and for what is not UTF-8: names come
// from files and arguments, and must not drive a terminal or break the line.
std::string Printable(std::string_view text);

// Prints `gpuroom: <text>`, made printable, to standard error; returns the exit status.
int Report(const Failure& failure);

}  // namespace gpuroom
