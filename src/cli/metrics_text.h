// What the processes under gpuroom tell, in Prometheus' text format (docs/metrics.md). Pure functions.
#pragma once

#include <string>
#include <vector>

#include "cli/process_rows.h"

namespace gpuroom {

std::string MetricsText(const std::vector<ProcessRow>& rows);

}  // namespace gpuroom
