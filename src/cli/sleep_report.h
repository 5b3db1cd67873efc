// What `gpuroom bench sleep` says: one JSON document (docs/cli.md has its fields),
// or a table for people. Pure: results in, text out.
#pragma once

#include <string>

#include "cli/bench_machine.h"
#include "measure/sleep.h"

namespace gpuroom {

struct SleepReport {
  BenchSubject subject;
  measure::SleepResult result;
};

std::string SleepJson(const SleepReport& report);
std::string SleepText(const SleepReport& report);

}  // namespace gpuroom
