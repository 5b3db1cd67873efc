// Strictness: misuse that was seen, leaks that are left, and the report at exit
// (GPUROOM_SIM_STRICT=1), which ends the process with status 86 where there
// was either. Under the State's lock.
#pragma once

#include <cuda.h>

#include <string>

namespace gpuroom::sim {

inline constexpr int kStrictExitCode = 86;

// Records one misuse; the first hundred keep their text.
void NoteMisuse(std::string text);
// Ends the process with SIGSEGV and says why: what a real driver does there too.
[[noreturn]] void CrashAsDriver(const char* why);
const char* ResultNameOr(CUresult result);

}  // namespace gpuroom::sim
