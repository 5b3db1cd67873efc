// Names and texts of the driver's results, from one list (error_names.def).
#pragma once

#include <cuda.h>

namespace gpuroom::sim {

// Null for a number that is no result.
const char* ResultName(CUresult result);
const char* ResultText(CUresult result);

// Accepts "CUDA_ERROR_OUT_OF_MEMORY" or "2".
bool ParseResult(const char* text, CUresult* out);

}  // namespace gpuroom::sim
