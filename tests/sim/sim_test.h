// What the simulator's tests share: a current primary context of device 0, and
// the check that a test leaves no memory behind.
#pragma once

#include <cuda.h>
#include <gtest/gtest.h>

#include <vector>

#include "gpuroom_sim.h"

namespace gpuroom::sim {

inline constexpr size_t kMega = size_t{1} << 20;
inline constexpr size_t kChunk = 2 * kMega;

class SimTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cuInit(0), CUDA_SUCCESS);
    ASSERT_EQ(cuDevicePrimaryCtxRetain(&context_, 0), CUDA_SUCCESS);
    ASSERT_EQ(cuCtxSetCurrent(context_), CUDA_SUCCESS);
  }
  void TearDown() override {
    gpuroom_sim_fail(nullptr);
    char text[1024] = {};
    EXPECT_EQ(gpuroom_sim_leaks(text, sizeof text), 0) << text;
  }

  static CUmemGenericAllocationHandle Create(CUmemLocationType type, int id, size_t bytes = kChunk,
                                             CUmemAllocationHandleType share = CU_MEM_HANDLE_TYPE_NONE) {
    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.requestedHandleTypes = share;
    prop.location.type = type;
    prop.location.id = id;
    CUmemGenericAllocationHandle handle = 0;
    EXPECT_EQ(cuMemCreate(&handle, bytes, &prop, 0), CUDA_SUCCESS);
    return handle;
  }
  static CUresult Allow(CUdeviceptr va, size_t bytes, CUmemLocationType type = CU_MEM_LOCATION_TYPE_DEVICE,
                        int id = 0) {
    CUmemAccessDesc desc = {};
    desc.location.type = type;
    desc.location.id = id;
    desc.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return cuMemSetAccess(va, bytes, &desc, 1);
  }
  static CUdeviceptr Reserve(size_t bytes) {
    CUdeviceptr va = 0;
    EXPECT_EQ(cuMemAddressReserve(&va, bytes, 0, 0, 0), CUDA_SUCCESS);
    return va;
  }
  static void Drop(CUdeviceptr va, size_t bytes) {
    EXPECT_EQ(cuMemUnmap(va, bytes), CUDA_SUCCESS);
    EXPECT_EQ(cuMemAddressFree(va, bytes), CUDA_SUCCESS);
  }
  // A reserved and mapped range whose chunks alternate between HBM and node 0.
  static CUdeviceptr MixedRange(size_t chunks) {
    const CUdeviceptr va = Reserve(chunks * kChunk);
    for (size_t i = 0; i < chunks; ++i) {
      const auto type = i % 2 == 0 ? CU_MEM_LOCATION_TYPE_DEVICE : CU_MEM_LOCATION_TYPE_HOST_NUMA;
      const auto handle = Create(type, 0);
      EXPECT_EQ(cuMemMap(va + i * kChunk, kChunk, 0, handle, 0), CUDA_SUCCESS);
      EXPECT_EQ(cuMemRelease(handle), CUDA_SUCCESS);
    }
    EXPECT_EQ(Allow(va, chunks * kChunk), CUDA_SUCCESS);
    return va;
  }
  static CUfunction Kernel(const char* name) {
    static CUmodule module = nullptr;
    if (module == nullptr) {
      EXPECT_EQ(cuModuleLoadData(&module, "any image"), CUDA_SUCCESS);
    }
    CUfunction function = nullptr;
    EXPECT_EQ(cuModuleGetFunction(&function, module, name), CUDA_SUCCESS);
    return function;
  }
  static CUresult Launch(const char* name, CUstream stream, std::vector<uint64_t> arguments) {
    void* pointers[4] = {};
    for (size_t i = 0; i < arguments.size(); ++i) pointers[i] = &arguments[i];
    return cuLaunchKernel(Kernel(name), 1, 1, 1, 32, 1, 1, 0, stream, pointers, nullptr);
  }
  static int Misuses() { return gpuroom_sim_strict_errors(nullptr, 0); }

  CUcontext context_ = nullptr;
};

}  // namespace gpuroom::sim
