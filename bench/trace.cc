// Nanoseconds for one event of a trace: where none was asked for, and where one is written. No GPU takes
// part.
//
//   bench_trace [--runs=N] [--file=PATH]
//
// Each figure is the least of many runs: what else the machine does only adds to it.
#include "base/trace.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "driver_program.h"

namespace gpuroom::bench {
namespace {

// Without this the loop over events that are off would be left out.
void Touch(uint64_t value) { asm volatile("" : : "r"(value) : "memory"); }

// The least of many short runs of `call(i)`, in nanoseconds for one.
template <typename Call>
double Measure(uint64_t runs, Call call) {
  constexpr uint64_t kCalls = 10000;
  double least = 0;
  for (uint64_t run = 0; run < runs; ++run) {
    const uint64_t start = NowNanoseconds();
    for (uint64_t i = 0; i < kCalls; ++i) call(i);
    const double each = static_cast<double>(NowNanoseconds() - start) / kCalls;
    least = run == 0 ? each : std::min(least, each);
  }
  return least;
}

void AddEvent(uint64_t i) {
  Touch(i);
  Trace::Add(TraceKind::kAllocation, 0, 1, {i, i, 0, 0});
}

}  // namespace
}  // namespace gpuroom::bench

int main(int argc, char** argv) {
  using namespace gpuroom::bench;
  Options options(argc, argv, {"runs", "file"});
  const uint64_t runs = options.Number("runs", 1000);
  Report report("trace");
  report.Figure("off_ns", Measure(runs, AddEvent));
  const std::string file = options.Text("file", "/dev/shm/gpuroom-bench-trace." + std::to_string(getpid()));
  if (!gpuroom::Trace::Start(file.c_str()).ok()) {
    std::fprintf(stderr, "bench_trace: %s cannot be made\n", file.c_str());
    return 1;
  }
  report.Figure("on_ns", Measure(runs, AddEvent));
  report.Figure("clock_ns", Measure(runs, [](uint64_t) { Touch(gpuroom::NowNanoseconds()); }));
  unlink(file.c_str());
  return report.Finish();
}
