// Library: libheadroom.so's C functions, found as a program finds them that opened it. CapiTest: device 0's
// primary context is current, and the pool holds nothing when a test ends.
//
// ctest sets the limits: HBM 64 MiB a device, of which 16 are the reserve, and 96 MiB of host memory.
#pragma once

#include <gtest/gtest.h>

#include "headroom/headroom.h"
#include "headroom/sleep.h"
#include "headroom/torch_allocator.h"
#include "headroom/torch_memory_saver.h"
#include "program.h"

namespace headroom::shim_test {

struct LibraryFunctions {
#define HEADROOM_FUNCTION(name) decltype(&headroom_##name) name = nullptr;
#include "library_functions.def"
#define HEADROOM_FOREIGN_FUNCTION(name) decltype(&::name) name = nullptr;
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
  headroom_stats Stats(int device = 0);
  headroom_placement Describe(CUdeviceptr p);
};

inline constexpr uint64_t kHbm = 64 * kMiB;
inline constexpr uint64_t kHost = 96 * kMiB;
inline constexpr uint64_t kThreshold = 16 * kMiB;

}  // namespace headroom::shim_test
