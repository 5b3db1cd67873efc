// The end of the process. Programs end by exit, by a return from main, by quick_exit, or at once by _exit and
// _Exit, as each worker of Python's multiprocessing does, and vLLM's engine with them. Each way writes the
// report (report.h). A signal that ends the process does not: its default action runs no code, and a handler
// of ours in its place would be seen by the program.
#pragma once

namespace gpuroom {

// Sees to it that quick_exit writes the report. Any thread, any number of times.
void WatchQuickExit();

// What _exit does, after the report. May be called in a signal's handler, and in a child by fork or vfork,
// which has nothing to report: nothing is written to memory there.
[[noreturn]] void LeaveAtOnce(int status) noexcept;

}  // namespace gpuroom
