// gpuroom_sleep for the library's own functions, which may ask for more than a program can.
#pragma once

#include <cstddef>

#include "gpuroom/sleep.h"

namespace gpuroom {

// Whether files that hold backups have names in their directory.
enum class BackupFiles { kUnnamed, kVisible };

// As gpuroom_sleep. May throw what allocations throw.
int SleepAsAsked(const gpuroom_sleep_request* request, size_t request_bytes, BackupFiles files,
                 gpuroom_sleep_report* out, size_t out_bytes);

}  // namespace gpuroom
