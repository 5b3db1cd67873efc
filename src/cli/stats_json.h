// What a process tells about itself (runtime/process_stats.h) as JSON: docs/metrics.md explains the fields.
#pragma once

#include <nlohmann/json.hpp>

#include "runtime/process_stats.h"

namespace gpuroom {

nlohmann::ordered_json StatsJson(const ProcessStats& stats);

}  // namespace gpuroom
