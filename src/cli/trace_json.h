// Traces in the Trace Event Format, which chrome://tracing and Perfetto's viewer (ui.perfetto.dev) read:
// https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU ("JSON Object Format").
// Times are microseconds after a base, which stands under "baseTimeNanoseconds", as PyTorch's profiler writes
// it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "cli/trace_file.h"

namespace gpuroom {

// All events of `files`. The base is the second in which the first begins.
std::string TraceJson(const std::vector<TraceFile>& files);

// `other`, a trace in this format, with the events of `files` before its own, in its time. PyTorch's profiler
// writes such files. kInvalidArgument: it is none.
Result<std::string> TraceJsonBeside(const std::vector<TraceFile>& files, std::string_view other);

}  // namespace gpuroom
