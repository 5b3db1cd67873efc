// The report of one process: bytes by tier, allocations, time in the shim. Makes no driver call, allocates
// nothing and waits for no lock, since a process may end in a signal's handler that interrupted anything.
#pragma once

#include "base/fixed_text.h"
#include "runtime/runtime.h"

namespace gpuroom {

// How a process ends, which says what its report may do.
enum class ProcessEnd {
  kOrderly,  // by exit or quick_exit: waits for whoever reads standard error, as the program's own output
             // does
  kAtOnce,   // by _exit, maybe in a signal's handler: waits a second at most
};

// Bytes that hold a report of all devices, and its line of JSON.
inline constexpr size_t kReportBytes = 64 * 1024;

// One line for each device that was used, as --report prints them.
void AddReport(const Runtime& rt, FixedText* text);

// The process ends: prints the report to standard error where options.report asks for it, and appends one
// JSON line to options.stats_file. Once in a process, and not in one that shares the memory of, or was copied
// from, the process that the runtime is of. Never fails loudly. Any thread.
void WriteLastReport(Runtime& rt, ProcessEnd end);

// Starts the thread that appends a JSON line to options.stats_file every options.stats_interval until the
// process ends, so that a signal that ends it costs the figures of one interval. Does nothing where none is
// asked for. Once for each runtime.
void StartReportInterval(Runtime& rt);

}  // namespace gpuroom
