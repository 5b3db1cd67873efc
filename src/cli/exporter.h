// `gpuroom exporter`: the figures of all processes for Prometheus (docs/metrics.md).
#pragma once

#include <string>
#include <vector>

namespace gpuroom {

int ExporterCommand(const std::vector<std::string>& arguments);

}  // namespace gpuroom
