// ShimTest: every test begins with device 0's primary context current and must
// leave the memory as it found it: nothing leaked, the same figures in
// cuMemGetInfo, no misuse seen by the simulated driver.
//
// ctest sets the limits that the tests count on: HBM 64 MiB a device, of which 16
// are the reserve, and 96 MiB of host memory.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "gpuroom/gpuroom.h"
#include "program.h"

namespace gpuroom::shim_test {

inline constexpr uint64_t kHbm = 64 * kMiB;
inline constexpr uint64_t kReserve = 16 * kMiB;
inline constexpr uint64_t kHost = 96 * kMiB;
inline constexpr uint64_t kForRanges = kHbm - kReserve;
inline constexpr uint64_t kThreshold = 16 * kMiB;
inline constexpr uint64_t kSpilled = 64 * kMiB;  // more than the ranges' HBM: 48 MiB there, 16 on the host
inline constexpr uint64_t kMixed = 128 * kMiB;   // more than the host, too: 48 MiB in HBM, 80 on the host

class ShimTest : public testing::Test {
 protected:
  void SetUp() override {
    GetSim().fail("");
    UseDevice(0);
    GetSim().clear_strict_errors();
    Spin(1);  // kernels and contexts are in place
    ASSERT_CU(Cu().CtxSynchronize());
    ASSERT_EQ(Leaks(), "");
    before_ = MemInfo();
  }
  void TearDown() override {
    GetSim().fail("");
    UseDevice(0);
    EXPECT_CU(Cu().CtxSynchronize());
    EXPECT_EQ(MemInfo().free, before_.free);
    EXPECT_EQ(MemInfo().total, before_.total);
    EXPECT_EQ(Leaks(), "");
    EXPECT_EQ(StrictErrors(), "");
  }

  CUdeviceptr Alloc(uint64_t bytes) {
    CUdeviceptr p = 0;
    EXPECT_CU(Cu().MemAlloc(&p, bytes));
    return p;
  }
  CUdeviceptr AllocHinted(gpuroom_hint hint, uint64_t bytes) {
    EXPECT_EQ(gpuroom_set_thread_hint(hint, nullptr), GPUROOM_OK);
    const CUdeviceptr p = Alloc(bytes);
    EXPECT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_NONE, nullptr), GPUROOM_OK);
    return p;
  }
  // Whole in host memory, though HBM may have room.
  CUdeviceptr AllocOnHost(uint64_t bytes) {
    const CUdeviceptr p = AllocHinted(GPUROOM_HINT_COLD, bytes);
    EXPECT_EQ(PlacementOf(p).device_bytes, 0u);
    return p;
  }
  // It gives way to nothing.
  CUdeviceptr AllocHot(uint64_t bytes) { return AllocHinted(GPUROOM_HINT_HOT, bytes); }
  void Free(CUdeviceptr p) { EXPECT_CU(Cu().MemFree(p)); }
  // What gave way comes back some time after a free. Lets `free_something` be, again and again, until
  // `bytes` of `p` are in HBM; false after a minute.
  template <typename Action>
  static bool AwaitReturn(CUdeviceptr p, uint64_t bytes, Action free_something) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (PlacementOf(p).device_bytes < bytes) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      free_something();
    }
    return true;
  }
  CUstream NewStream(unsigned flags = CU_STREAM_NON_BLOCKING) {
    CUstream stream = nullptr;
    EXPECT_CU(Cu().StreamCreate(&stream, flags));
    return stream;
  }

  Info before_;
};

// Memory that the program makes and maps itself, at `times` addresses side by side.
struct Mapped {
  explicit Mapped(uint64_t size, int times = 1, int device = 0,
                  CUmemAllocationHandleType shareable = CU_MEM_HANDLE_TYPE_NONE)
      : bytes(size), windows(times) {
    CUmemAllocationProp prop = DeviceMemory(device);
    prop.requestedHandleTypes = shareable;
    const CUmemAccessDesc access = DeviceAccess(device);
    EXPECT_CU(Cu().MemCreate(&handle, bytes, &prop, 0));
    EXPECT_CU(Cu().MemAddressReserve(&va, Span(), 0, 0, 0));
    for (int i = 0; i < windows; ++i) EXPECT_CU(Cu().MemMap(At(i), bytes, 0, handle, 0));
    EXPECT_CU(Cu().MemSetAccess(va, Span(), &access, 1));
  }
  uint64_t Span() const { return bytes * static_cast<uint64_t>(windows); }
  CUdeviceptr At(int window) const { return va + bytes * static_cast<uint64_t>(window); }
  void Free() const {
    EXPECT_CU(Cu().MemUnmap(va, Span()));
    EXPECT_CU(Cu().MemRelease(handle));
    EXPECT_CU(Cu().MemAddressFree(va, Span()));
  }

  uint64_t bytes;
  int windows;
  CUmemGenericAllocationHandle handle = 0;
  CUdeviceptr va = 0;
};

}  // namespace gpuroom::shim_test
