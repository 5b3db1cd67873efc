// CUDA arrays: bytes of a device in rows and slices, at an address that no program is told. Nothing samples
// them: they are made, described and copied. Under the State's lock.
#pragma once

#include <cuda.h>

#include "copy.h"

struct CUarray_st {
  CUDA_ARRAY3D_DESCRIPTOR description{};
  CUcontext context = nullptr;
  CUdeviceptr start = 0;
  uint64_t row = 0;     // bytes
  uint64_t rows = 1;    // of a slice
  uint64_t slices = 1;  // or layers
};

namespace gpuroom::sim {

// Null: no array that lives.
const CUarray_st* FindArray(CUarray array);
// The whole of it, in rows of `row` bytes. Copies narrow it.
Box WholeArray(const CUarray_st& array);

}  // namespace gpuroom::sim
