// Ranges passed between processes with cuIpcGetMemHandle and cuIpcOpenMemHandle: what
// works, and what the program is told.
#include <thread>

#include "gpuroom/sleep.h"
#include "ipc_fixture.h"

namespace gpuroom::shim_test {
namespace {

// 32 MiB: in HBM; kSpilled: on the host; kMixed: both, interleaved.
class SharedTest : public IpcTest, public testing::WithParamInterface<uint64_t> {
 protected:
  CUdeviceptr AllocPlaced() { return GetParam() == kSpilled ? AllocOnHost(kSpilled) : Alloc(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Placement, SharedTest, testing::Values(32 * kMiB, kSpilled, kMixed),
                         [](const auto& test) {
                           return test.param == kMixed     ? "Mixed"
                                  : test.param == kSpilled ? "Spilled"
                                                           : "Device";
                         });

TEST_P(SharedTest, BothProcessesSeeTheSameBytes) {
  const uint64_t bytes = GetParam();
  const CUdeviceptr p = AllocPlaced();
  Fill(p, bytes, 1);
  ASSERT_CU(Cu().CtxSynchronize());
  Actor importer;
  const CUdeviceptr there = importer.Open(Export(p));
  EXPECT_EQ(importer.CountBad(there, bytes, 1), 0u);
  EXPECT_EQ(importer.Ask("host_bytes " + std::to_string(there)), std::to_string(PlacementOf(p).host_bytes));
  importer.Fill(there, bytes, 2);
  EXPECT_EQ(CountBad(p, bytes, 2), 0u);
  Fill(p, bytes, 3);
  ASSERT_CU(Cu().CtxSynchronize());
  EXPECT_EQ(importer.CountBad(there, bytes, 3), 0u);
  EXPECT_EQ(importer.Close(there), "CUDA_SUCCESS");
  EXPECT_EQ(importer.End(), 0);
  EXPECT_EQ(CountBad(p, bytes, 3), 0u);
  Free(p);
}

TEST_P(SharedTest, AnOpenedRangeLooksLikeDeviceMemory) {
  const uint64_t bytes = GetParam() - 5000;
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(bytes);
  const CUdeviceptr p = Open(exporter.Export(theirs));
  for (const uint64_t offset : {uint64_t{0}, bytes / 2 + 3, bytes - 1}) {
    CUdeviceptr base = 0;
    size_t size = 0;
    EXPECT_CU(Cu().MemGetAddressRange(&base, &size, p + offset));
    EXPECT_EQ(base, p);
    EXPECT_EQ(size, bytes);
    unsigned type = 0;
    int ordinal = -1;
    int legacy = -1;
    CUcontext context = nullptr;
    CUpointer_attribute wanted[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                    CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
                                    CU_POINTER_ATTRIBUTE_CONTEXT};
    void* data[] = {&type, &ordinal, &legacy, &context};
    EXPECT_CU(Cu().PointerGetAttributes(4, wanted, data, p + offset));
    EXPECT_EQ(type, unsigned{CU_MEMORYTYPE_DEVICE});
    EXPECT_EQ(ordinal, 0);
    EXPECT_EQ(legacy, 0);
    EXPECT_EQ(context, UseDevice(0));
    type = 0;
    EXPECT_CU(Cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p + offset));
    EXPECT_EQ(type, unsigned{CU_MEMORYTYPE_DEVICE});
  }
  EXPECT_EQ(GetSim().used(0), 0u);  // its owner pays for it
  Close(p);
  CUdeviceptr base = 0;
  EXPECT_CU_IS(Cu().MemGetAddressRange(&base, nullptr, p), CUDA_ERROR_NOT_FOUND);
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
  EXPECT_EQ(exporter.End(), 0);
}

// Small ones for which HBM had no room share a range, of which each is passed on by itself.
TEST_F(IpcTest, SmallOnesThatShareARangeArePassedOnByThemselves) {
  const uint64_t bytes = 5 * kMiB / 64;
  Actor exporter;
  std::vector<CUdeviceptr> fillers = {exporter.Alloc(kForRanges)};
  for (uint64_t left = kReserve; left > 0; left -= kMiB) fillers.push_back(exporter.Alloc(kMiB));
  ASSERT_EQ(exporter.Ask("hot " + std::to_string(fillers[0])), "0");
  const CUdeviceptr first = exporter.Alloc(bytes);
  const CUdeviceptr second = exporter.Alloc(bytes);
  exporter.Fill(first, bytes, 1);
  exporter.Fill(second, bytes, 2);
  const CUipcMemHandle handle = exporter.Export(second);
  EXPECT_NE(ToHex(exporter.Export(first)), ToHex(handle));
  const CUdeviceptr p = Open(handle);
  const CUdeviceptr q = Open(exporter.Export(first));
  EXPECT_EQ(Open(handle), p);
  EXPECT_EQ(CountBad(p, bytes, 2), 0u);
  EXPECT_EQ(CountBad(q, bytes, 1), 0u);
  Fill(p, bytes, 3);
  ASSERT_CU(Cu().CtxSynchronize());
  EXPECT_EQ(exporter.CountBad(second, bytes, 3), 0u);
  EXPECT_EQ(exporter.CountBad(first, bytes, 1), 0u);
  CUdeviceptr base = 0;
  size_t size = 0;
  EXPECT_CU(Cu().MemGetAddressRange(&base, &size, p + bytes / 2));
  EXPECT_EQ(base, p);
  EXPECT_EQ(size, bytes);
  Close(p);
  EXPECT_EQ(CountBad(p, bytes, 3), 0u);
  Close(p);
  Close(q);
  EXPECT_EQ(exporter.Free(second), "CUDA_SUCCESS");
  EXPECT_CU_IS(TryOpen(handle), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(exporter.Free(first), "CUDA_SUCCESS");
  for (const CUdeviceptr filler : fillers) EXPECT_EQ(exporter.Free(filler), "CUDA_SUCCESS");
  EXPECT_EQ(exporter.End(), 0);
}

TEST_F(IpcTest, ItMovesWhileNobodyHasItOpen) {
  const uint64_t bytes = 32 * kMiB;
  const CUdeviceptr p = Alloc(bytes);
  Fill(p, bytes, 1);
  ASSERT_CU(Cu().CtxSynchronize());
  const CUipcMemHandle handle = Export(p);
  EXPECT_EQ(gpuroom_range_migrate(p, 0, GPUROOM_TIER_HOST), GPUROOM_OK);
  Actor importer;
  const CUdeviceptr there = importer.Open(handle);
  EXPECT_EQ(importer.CountBad(there, bytes, 1), 0u);
  EXPECT_EQ(gpuroom_range_migrate(p, 0, GPUROOM_TIER_DEVICE), GPUROOM_BUSY);
  EXPECT_EQ(PlacementOf(p).host_bytes, bytes);
  importer.Fill(there, bytes, 2);
  EXPECT_EQ(importer.Close(there), "CUDA_SUCCESS");
  EXPECT_EQ(importer.End(), 0);
  int moved = GPUROOM_BUSY;  // until its end has been noticed
  for (int i = 0; i < 1000 && moved == GPUROOM_BUSY; ++i) {
    moved = gpuroom_range_migrate(p, 0, GPUROOM_TIER_DEVICE);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(moved, GPUROOM_OK);
  EXPECT_EQ(PlacementOf(p).host_bytes, 0u);
  EXPECT_EQ(CountBad(p, bytes, 2), 0u);
  Actor another;
  const CUdeviceptr again = another.Open(handle);
  EXPECT_EQ(another.CountBad(again, bytes, 2), 0u);
  EXPECT_EQ(another.Close(again), "CUDA_SUCCESS");
  EXPECT_EQ(another.End(), 0);
  Free(p);
}

TEST_P(SharedTest, AnAllocationHasOneHandleAndTheNextAnother) {
  const CUdeviceptr p = Alloc(GetParam());
  const CUipcMemHandle first = Export(p);
  const CUipcMemHandle again = Export(p);
  const CUipcMemHandle middle = Export(p + GetParam() / 2);
  EXPECT_EQ(ToHex(first), ToHex(again));
  EXPECT_EQ(ToHex(first), ToHex(middle));  // of the allocation, not of the address
  unsigned legacy = 0;
  EXPECT_CU(Cu().PointerGetAttribute(&legacy, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, p));
  EXPECT_EQ(legacy, 1u);
  Free(p);
  const CUdeviceptr next = Alloc(GetParam());
  EXPECT_NE(ToHex(Export(next)), ToHex(first));
  Free(next);
}

TEST_F(IpcTest, AHandleOpenedTwiceHasOneAddressAndTwoCloses) {
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(kSpilled);
  exporter.Fill(theirs, kSpilled, 5);
  const CUipcMemHandle handle = exporter.Export(theirs);
  Free(Alloc(kMiB));  // the simulated driver keeps a descriptor of the first one
  const size_t descriptors = Descriptors();
  const CUdeviceptr p = Open(handle);
  EXPECT_EQ(Open(handle), p);
  Close(p);
  EXPECT_EQ(CountBad(p, kSpilled, 5), 0u);
  Close(p);
  EXPECT_EQ(Descriptors(), descriptors);
  EXPECT_CU_IS(Cu().IpcCloseMemHandle(p), CUDA_ERROR_INVALID_VALUE);
  GetSim().clear_strict_errors();
  const CUdeviceptr later = Open(handle);
  EXPECT_EQ(CountBad(later, kSpilled, 5), 0u);
  Close(later);
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
}

TEST_F(IpcTest, NoKernelBeginsEarlyBesideMemoryOfAnotherProcess) {
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(kSpilled);
  EXPECT_TRUE(BeginsEarly());
  const CUdeviceptr p = Open(exporter.Export(theirs));
  EXPECT_FALSE(BeginsEarly());
  Close(p);
  EXPECT_TRUE(BeginsEarly());
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
}

TEST_F(IpcTest, ItIsClosedNotFreedAndNotExportedAgain) {
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(kSpilled);
  const CUdeviceptr p = Open(exporter.Export(theirs));
  EXPECT_CU_IS(Cu().MemFree(p), CUDA_ERROR_INVALID_VALUE);
  CUipcMemHandle handle;
  EXPECT_CU_IS(Cu().IpcGetMemHandle(&handle, p), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU_IS(Cu().IpcCloseMemHandle(p + kMiB), CUDA_ERROR_INVALID_VALUE);
  GetSim().clear_strict_errors();
  Close(p);
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
}

TEST_F(IpcTest, TheExporterItselfMayNotOpenIt) {
  const CUdeviceptr p = Alloc(kSpilled);
  CUdeviceptr q = 0;
  EXPECT_CU_IS(Cu().IpcOpenMemHandle(&q, Export(p), kFlags), CUDA_ERROR_INVALID_CONTEXT);
  Free(p);
}

TEST_F(IpcTest, WrongArgumentsGetTheDriversErrors) {
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(kSpilled);
  const CUipcMemHandle handle = exporter.Export(theirs);
  CUdeviceptr p = 0;
  EXPECT_CU_IS(Cu().IpcOpenMemHandle(&p, handle, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU_IS(Cu().IpcOpenMemHandle(nullptr, handle, kFlags), CUDA_ERROR_INVALID_VALUE);
  const CUdeviceptr mine = Alloc(kThreshold);
  EXPECT_CU_IS(Cu().IpcGetMemHandle(nullptr, mine), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU(Cu().CtxSetCurrent(nullptr));
  EXPECT_CU_IS(Cu().IpcOpenMemHandle(&p, handle, kFlags), CUDA_ERROR_INVALID_CONTEXT);
  CUipcMemHandle unused;
  EXPECT_CU_IS(Cu().IpcGetMemHandle(&unused, mine), CUDA_ERROR_INVALID_CONTEXT);
  UseDevice(0);
  Free(mine);
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
}

TEST_F(IpcTest, SmallAllocationsKeepTheDriversOwnHandles) {
  const CUdeviceptr p = Alloc(4 * kMiB);
  Fill(p, 4 * kMiB, 9);
  ASSERT_CU(Cu().CtxSynchronize());
  Actor importer;
  const CUdeviceptr there = importer.Open(Export(p));
  EXPECT_EQ(importer.CountBad(there, 4 * kMiB, 9), 0u);
  EXPECT_EQ(importer.Ask("host_bytes " + std::to_string(there)), "0");
  EXPECT_EQ(importer.Close(there), "CUDA_SUCCESS");
  EXPECT_EQ(importer.End(), 0);
  Free(p);
}

TEST_F(IpcTest, ASmallAllocationIsOpenedTwiceLikeALargeOne) {
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(4 * kMiB);
  exporter.Fill(theirs, 4 * kMiB, 2);
  const CUipcMemHandle handle = exporter.Export(theirs);
  const CUdeviceptr p = Open(handle);
  EXPECT_EQ(Open(handle), p);
  Close(p);
  EXPECT_EQ(CountBad(p, 4 * kMiB, 2), 0u);
  Close(p);
  EXPECT_CU_IS(Cu().IpcCloseMemHandle(p), CUDA_ERROR_INVALID_VALUE);
  GetSim().clear_strict_errors();
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
}

TEST_F(IpcTest, CaptureNeitherHindersNorSuffers) {
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(kSpilled);
  const CUipcMemHandle handle = exporter.Export(theirs);
  const CUdeviceptr before = Open(handle);
  const CUstream stream = NewStream();
  ASSERT_CU(Cu().StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  Close(before);
  const CUdeviceptr during = Open(handle);
  CUgraph graph = nullptr;
  ASSERT_CU(Cu().StreamEndCapture(stream, &graph));
  EXPECT_CU(Cu().GraphDestroy(graph));
  EXPECT_CU(Cu().StreamDestroy(stream));
  Close(during);  // what was kept over the capture goes with it
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
}

TEST_F(IpcTest, ThreadsOpenAndCloseAtOnce) {
  Actor exporter;
  const CUdeviceptr one = exporter.Alloc(32 * kMiB);
  const CUdeviceptr two = exporter.Alloc(kSpilled);
  exporter.Fill(one, 32 * kMiB, 1);
  exporter.Fill(two, kSpilled, 2);
  const CUipcMemHandle handles[] = {exporter.Export(one), exporter.Export(two)};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      UseDevice(0);
      for (int round = 0; round < 10; ++round) {
        const CUdeviceptr p = Open(handles[(i + round) % 2]);
        EXPECT_EQ(CountBad(p, kMiB, 1 + static_cast<uint64_t>((i + round) % 2)), 0u);
        Close(p);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(exporter.Free(one), "CUDA_SUCCESS");
  EXPECT_EQ(exporter.Free(two), "CUDA_SUCCESS");
}

using IpcPeerTest = IpcTest;

// On two devices: memory of the second, opened while the first is current.
TEST_F(IpcPeerTest, AnotherDevicesMemoryKeepsItsDevice) {
  Actor exporter;
  EXPECT_EQ(exporter.Ask("device 1"), "ready");
  const CUdeviceptr theirs = exporter.Alloc(32 * kMiB);
  exporter.Fill(theirs, 32 * kMiB, 4);
  const CUdeviceptr p = Open(exporter.Export(theirs));
  int ordinal = -1;
  EXPECT_CU(Cu().PointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, p));
  EXPECT_EQ(ordinal, 1);
  EXPECT_EQ(CountBad(p, 32 * kMiB, 4), 0u);
  UseDevice(1);  // in use from now on: it reaches what was opened before
  EXPECT_EQ(CountBad(p, 32 * kMiB, 4), 0u);
  UseDevice(0);
  Close(p);
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
}

TEST_F(IpcTest, WhatSleepsIsOpenedAfterItsWakeAndWhatIsOpenStaysAwake) {
  const CUdeviceptr p = Alloc(kThreshold);
  Fill(p, kThreshold, 4);
  const CUipcMemHandle handle = Export(p);
  const gpuroom_sleep_request all = {nullptr, 0, nullptr, GPUROOM_HOLD_NONE, 0};
  gpuroom_sleep_report report{};
  ASSERT_EQ(gpuroom_sleep(&all, sizeof all, &report, sizeof report), GPUROOM_OK) << gpuroom_last_error();
  EXPECT_EQ(report.ranges, 1u);
  Actor importer;
  std::string error;
  EXPECT_EQ(importer.Open(handle, &error), 0u);
  EXPECT_EQ(error, "CUDA_ERROR_INVALID_VALUE");
  ASSERT_EQ(gpuroom_wake(nullptr, 0, 0, nullptr, 0), GPUROOM_OK) << gpuroom_last_error();
  const CUdeviceptr there = importer.Open(handle);
  EXPECT_EQ(importer.CountBad(there, kThreshold, 4), 0u);
  ASSERT_EQ(gpuroom_sleep(&all, sizeof all, &report, sizeof report), GPUROOM_OK) << gpuroom_last_error();
  EXPECT_EQ(report.ranges, 0u);
  EXPECT_EQ(report.left_awake, kThreshold);
  EXPECT_EQ(importer.CountBad(there, kThreshold, 4), 0u);
  EXPECT_EQ(importer.Close(there), "CUDA_SUCCESS");
  EXPECT_EQ(importer.End(), 0);
  Free(p);
}

}  // namespace
}  // namespace gpuroom::shim_test
