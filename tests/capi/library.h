// Library: libgpuroom.so's C functions, found as a program finds them that opened it. CapiTest: device 0's
// primary context is current, and the pool holds nothing when a test ends.
//
// ctest sets the limits: HBM 64 MiB a device, of which 16 are the reserve, and 96 MiB of host memory.
#pragma once

#include <gtest/gtest.h>

#include "gpuroom/gpuroom.h"
#include "gpuroom/sleep.h"
#include "gpuroom/torch_allocator.h"
#include "gpuroom/torch_memory_saver.h"
#include "program.h"

namespace gpuroom::shim_test {

struct LibraryFunctions {
#define GPUROOM_FUNCTION(name) decltype(&gpuroom_##name) name = nullptr;
#include "library_functions.def"
#define GPUROOM_FOREIGN_FUNCTION(name) decltype(&::name) name = nullptr;
#include "foreign_functions.def"
};
const LibraryFunctions& Library();
// Whether the library's hooks stand in front of the driver in this run.
bool InFront();

class CapiTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // From the pool, on device 0; fails the test if there is none.
  CUdeviceptr Alloc(uint64_t bytes, CUstream stream = nullptr, int device = 0);
  void Free(CUdeviceptr p, CUstream stream = nullptr, int device = 0);
  // A segment of its own.
  CUdeviceptr Segment(uint64_t bytes);
  void FreeSegment(CUdeviceptr p);
  gpuroom_stats Stats(int device = 0);
  gpuroom_placement Describe(CUdeviceptr p);
};

inline constexpr uint64_t kHbm = 64 * kMiB;
inline constexpr uint64_t kHost = 96 * kMiB;
inline constexpr uint64_t kThreshold = 16 * kMiB;

}  // namespace gpuroom::shim_test
