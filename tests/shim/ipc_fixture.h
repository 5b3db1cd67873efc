// IpcTest: this process and an Actor share memory.
#pragma once

#include <chrono>
#include <filesystem>
#include <iterator>
#include <thread>

#include "ipc_actor.h"
#include "shim_test.h"

namespace gpuroom::shim_test {

inline constexpr unsigned kFlags = CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS;

class IpcTest : public ShimTest {
 protected:
  void SetUp() override {
    LetTheLedgerAge();
    ShimTest::SetUp();
  }
  void TearDown() override {
    LetTheLedgerAge();
    ShimTest::TearDown();
  }

  static CUipcMemHandle Export(CUdeviceptr p) {
    CUipcMemHandle handle{};
    EXPECT_CU(Cu().IpcGetMemHandle(&handle, p));
    return handle;
  }
  static CUdeviceptr Open(const CUipcMemHandle& handle) {
    CUdeviceptr p = 0;
    EXPECT_CU(Cu().IpcOpenMemHandle(&p, handle, kFlags));
    return p;
  }
  static CUresult TryOpen(const CUipcMemHandle& handle) {
    CUdeviceptr p = 0;
    const CUresult result = Cu().IpcOpenMemHandle(&p, handle, kFlags);
    if (result == CUDA_SUCCESS) Close(p);
    return result;
  }
  static void Close(CUdeviceptr p) { EXPECT_CU(Cu().IpcCloseMemHandle(p)); }
  static size_t Descriptors() {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return static_cast<size_t>(std::distance(begin(all), end(all)));
  }

 private:
  // What cuMemGetInfo counts of other processes may be 20 ms old.
  static void LetTheLedgerAge() { std::this_thread::sleep_for(std::chrono::milliseconds(30)); }
};

}  // namespace gpuroom::shim_test
