// A process under gpuroom as `gpuroom ps --json` and `gpuroom top --json` print it.
#pragma once

#include <nlohmann/json.hpp>

#include "cli/process_rows.h"

namespace gpuroom {

nlohmann::ordered_json ProcessJson(const ProcessRow& row);

}  // namespace gpuroom
