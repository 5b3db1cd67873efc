#include <gtest/gtest.h>

#include "driver/driver.h"

namespace gpuroom {
namespace {

TEST(AllocationResult, IsLackOfMemoryWhateverKeptItFromBeingMade) {
  for (const CUresult result : {CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_INVALID_DEVICE,
                                CUDA_ERROR_OPERATING_SYSTEM, CUDA_ERROR_NOT_PERMITTED,
                                CUDA_ERROR_NOT_SUPPORTED, CUDA_ERROR_UNKNOWN}) {
    EXPECT_EQ(AllocationResult(DriverStatus(result, "a call")), CUDA_ERROR_OUT_OF_MEMORY) << result;
  }
  for (const Code code :
       {Code::kUnsupported, Code::kNotFound, Code::kInvalidArgument, Code::kSystem, Code::kBusy}) {
    EXPECT_EQ(AllocationResult(Status(code, "a step")), CUDA_ERROR_OUT_OF_MEMORY) << CodeName(code);
  }
}

TEST(AllocationResult, LeavesWhatEndsAContextAsItIs) {
  EXPECT_EQ(AllocationResult(Status()), CUDA_SUCCESS);
  for (const CUresult result :
       {CUDA_ERROR_NOT_INITIALIZED, CUDA_ERROR_INVALID_CONTEXT, CUDA_ERROR_CONTEXT_IS_DESTROYED,
        CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_LAUNCH_FAILED, CUDA_ERROR_ECC_UNCORRECTABLE}) {
    EXPECT_EQ(AllocationResult(DriverStatus(result, "a call")), result);
  }
}

}  // namespace
}  // namespace gpuroom
