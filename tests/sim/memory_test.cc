#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "sim_test.h"

namespace gpuroom::sim {
namespace {

using MemoryTest = SimTest;
using MemoryDeathTest = SimTest;

size_t Free() {
  size_t free_bytes = 0;
  size_t total = 0;
  EXPECT_EQ(cuMemGetInfo(&free_bytes, &total), CUDA_SUCCESS);
  return free_bytes;
}

TEST_F(MemoryTest, AllocationsChargeTheDeviceAndEndInOutOfMemory) {
  EXPECT_EQ(Free(), 64 * kMega);
  CUdeviceptr big = 0;
  ASSERT_EQ(cuMemAlloc(&big, 63 * kMega), CUDA_SUCCESS);
  EXPECT_EQ(Free(), 0U);
  CUdeviceptr more = 0;
  EXPECT_EQ(cuMemAlloc(&more, 1), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(cuMemFree(big), CUDA_SUCCESS);
  EXPECT_EQ(gpuroom_sim_used(0), 0U);
}

TEST_F(MemoryTest, SmallAllocationsShareABlockAndDoNotOverlap) {
  CUdeviceptr a = 0;
  CUdeviceptr b = 0;
  ASSERT_EQ(cuMemAlloc(&a, 100), CUDA_SUCCESS);
  ASSERT_EQ(cuMemAlloc(&b, 100), CUDA_SUCCESS);
  EXPECT_EQ(gpuroom_sim_used(0), kChunk);
  ASSERT_EQ(cuMemsetD8(a, 1, 100), CUDA_SUCCESS);
  ASSERT_EQ(cuMemsetD8(b, 2, 100), CUDA_SUCCESS);
  unsigned char back[2] = {};
  ASSERT_EQ(cuMemcpyDtoH(&back[0], a + 99, 1), CUDA_SUCCESS);
  ASSERT_EQ(cuMemcpyDtoH(&back[1], b, 1), CUDA_SUCCESS);
  EXPECT_EQ(back[0], 1);
  EXPECT_EQ(back[1], 2);
  EXPECT_EQ(cuMemFree(a), CUDA_SUCCESS);
  EXPECT_EQ(cuMemFree(b), CUDA_SUCCESS);
  EXPECT_EQ(gpuroom_sim_used(0), 0U);
}

TEST_F(MemoryTest, ADoubleFreeIsRefusedAndRecorded) {
  CUdeviceptr a = 0;
  ASSERT_EQ(cuMemAlloc(&a, kChunk), CUDA_SUCCESS);
  ASSERT_EQ(cuMemFree(a), CUDA_SUCCESS);
  EXPECT_EQ(Misuses(), 0);
  EXPECT_EQ(cuMemFree(a), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Misuses(), 1);
  gpuroom_sim_clear_strict_errors();
  EXPECT_EQ(Misuses(), 0);
}

TEST_F(MemoryTest, RemappingAChunkKeepsItsContents) {
  const auto handle = Create(CU_MEM_LOCATION_TYPE_HOST_NUMA, 1);
  EXPECT_EQ(gpuroom_sim_used(-2), kChunk);
  const CUdeviceptr first = Reserve(kChunk);
  const CUdeviceptr second = Reserve(kChunk);
  ASSERT_EQ(cuMemMap(first, kChunk, 0, handle, 0), CUDA_SUCCESS);
  ASSERT_EQ(Allow(first, kChunk), CUDA_SUCCESS);
  const uint64_t value = 0x1234;
  ASSERT_EQ(cuMemcpyHtoD(first + 8, &value, 8), CUDA_SUCCESS);
  Drop(first, kChunk);
  ASSERT_EQ(cuMemMap(second, kChunk, 0, handle, 0), CUDA_SUCCESS);
  ASSERT_EQ(cuMemRelease(handle), CUDA_SUCCESS);
  ASSERT_EQ(Allow(second, kChunk), CUDA_SUCCESS);
  uint64_t back = 0;
  ASSERT_EQ(cuMemcpyDtoH(&back, second + 8, 8), CUDA_SUCCESS);
  EXPECT_EQ(back, value);
  Drop(second, kChunk);
  EXPECT_EQ(gpuroom_sim_used(-2), 0U);
}

TEST_F(MemoryTest, ANewChunkReadsAsZerosAfterAnotherUsedTheSpace) {
  for (int round = 0; round < 2; ++round) {
    const CUdeviceptr va = MixedRange(2);
    uint64_t back = 1;
    ASSERT_EQ(cuMemcpyDtoH(&back, va, 8), CUDA_SUCCESS);
    EXPECT_EQ(back, 0U);
    ASSERT_EQ(cuMemsetD8(va, 0xff, 2 * kChunk), CUDA_SUCCESS);
    ASSERT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
    Drop(va, 2 * kChunk);
  }
}

TEST_F(MemoryTest, CopiesAndKernelsCrossChunkBorders) {
  const size_t bytes = 4 * kChunk;
  const CUdeviceptr va = MixedRange(4);
  CUdeviceptr bad = 0;
  ASSERT_EQ(cuMemAlloc(&bad, 8), CUDA_SUCCESS);
  ASSERT_EQ(cuMemsetD8(bad, 0, 8), CUDA_SUCCESS);
  ASSERT_EQ(Launch("gpuroom_fill", nullptr, {va, bytes / 8, 5}), CUDA_SUCCESS);
  ASSERT_EQ(Launch("gpuroom_verify", nullptr, {va, bytes / 8, 5, bad}), CUDA_SUCCESS);
  uint64_t count = 1;
  ASSERT_EQ(cuMemcpyDtoH(&count, bad, 8), CUDA_SUCCESS);
  EXPECT_EQ(count, 0U);
  ASSERT_EQ(Launch("gpuroom_verify", nullptr, {va, bytes / 8, 6, bad}), CUDA_SUCCESS);
  ASSERT_EQ(cuMemcpyDtoH(&count, bad, 8), CUDA_SUCCESS);
  EXPECT_EQ(count, bytes / 8);
  std::vector<char> out(3 * kMega, 7);
  std::vector<char> in(out.size());
  ASSERT_EQ(cuMemcpyHtoD(va + kMega, out.data(), out.size()), CUDA_SUCCESS);
  ASSERT_EQ(cuMemcpyDtoH(in.data(), va + kMega, in.size()), CUDA_SUCCESS);
  EXPECT_EQ(in, out);
  EXPECT_EQ(cuMemFree(bad), CUDA_SUCCESS);
  Drop(va, bytes);
}

TEST_F(MemoryTest, UnequalAccessMakesAMemsetOverBothFail) {
  const CUdeviceptr va = MixedRange(2);
  EXPECT_EQ(cuMemsetD8(va, 1, 2 * kChunk), CUDA_SUCCESS);
  ASSERT_EQ(Allow(va + kChunk, kChunk, CU_MEM_LOCATION_TYPE_HOST_NUMA, 0), CUDA_SUCCESS);
  EXPECT_EQ(cuMemsetD8(va, 1, 2 * kChunk), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemsetD8(va, 1, kChunk), CUDA_SUCCESS);
  ASSERT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_EQ(*reinterpret_cast<unsigned char*>(va + kChunk), 1);  // the host sees its own chunk
  Drop(va, 2 * kChunk);
}

TEST_F(MemoryTest, MisuseOfMappingsIsRefusedAndRecorded) {
  const CUdeviceptr va = Reserve(2 * kChunk);
  const auto handle = Create(CU_MEM_LOCATION_TYPE_DEVICE, 0, 2 * kChunk);
  EXPECT_EQ(cuMemUnmap(va, kChunk),
            CUDA_SUCCESS);  // nothing there: the driver does not mind, the record does
  EXPECT_EQ(cuMemMap(va, kChunk, kChunk, handle, 0), CUDA_ERROR_NOT_SUPPORTED);
  ASSERT_EQ(cuMemMap(va, 2 * kChunk, 0, handle, 0), CUDA_SUCCESS);
  EXPECT_EQ(cuMemUnmap(va, kChunk), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemAddressFree(va, 2 * kChunk), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemRelease(handle), CUDA_SUCCESS);
  EXPECT_EQ(cuMemRelease(handle), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Misuses(), 5);
  Drop(va, 2 * kChunk);
}

TEST_F(MemoryTest, HostBudgetIsPerNode) {
  const auto full = Create(CU_MEM_LOCATION_TYPE_HOST_NUMA, 0, 32 * kMega);
  CUmemAllocationProp prop = {};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
  CUmemGenericAllocationHandle handle = 0;
  EXPECT_EQ(cuMemCreate(&handle, kChunk, &prop, 0), CUDA_ERROR_OUT_OF_MEMORY);
  prop.location.id = 1;
  EXPECT_EQ(cuMemCreate(&handle, kChunk, &prop, 0), CUDA_SUCCESS);
  prop.location.id = 2;
  EXPECT_NE(cuMemCreate(&handle, kChunk, &prop, 0), CUDA_SUCCESS);
  EXPECT_EQ(cuMemRelease(full), CUDA_SUCCESS);
  EXPECT_EQ(cuMemRelease(handle), CUDA_SUCCESS);
}

TEST_F(MemoryTest, AnExportedDescriptorImportsAsTheSameBytes) {
  const auto handle =
      Create(CU_MEM_LOCATION_TYPE_DEVICE, 0, kChunk, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  int fd = -1;
  ASSERT_EQ(cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
            CUDA_SUCCESS);
  CUmemGenericAllocationHandle imported = 0;
  ASSERT_EQ(cuMemImportFromShareableHandle(&imported, reinterpret_cast<void*>(static_cast<intptr_t>(fd)),
                                           CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
            CUDA_SUCCESS);
  close(fd);
  const CUdeviceptr va = Reserve(2 * kChunk);
  ASSERT_EQ(cuMemMap(va, kChunk, 0, handle, 0), CUDA_SUCCESS);
  ASSERT_EQ(cuMemMap(va + kChunk, kChunk, 0, imported, 0), CUDA_SUCCESS);
  ASSERT_EQ(Allow(va, 2 * kChunk), CUDA_SUCCESS);
  ASSERT_EQ(cuMemsetD32(va, 77, kChunk / 4), CUDA_SUCCESS);
  uint32_t back = 0;
  ASSERT_EQ(cuMemcpyDtoH(&back, va + 2 * kChunk - 4, 4), CUDA_SUCCESS);
  EXPECT_EQ(back, 77U);
  EXPECT_EQ(cuMemRelease(handle), CUDA_SUCCESS);
  EXPECT_EQ(cuMemRelease(imported), CUDA_SUCCESS);
  Drop(va, 2 * kChunk);
}

TEST_F(MemoryTest, APeersChunkNeedsAccessForTheDeviceThatAsks) {
  const auto handle = Create(CU_MEM_LOCATION_TYPE_DEVICE, 1);
  const CUdeviceptr va = Reserve(kChunk);
  ASSERT_EQ(cuMemMap(va, kChunk, 0, handle, 0), CUDA_SUCCESS);
  ASSERT_EQ(Allow(va, kChunk, CU_MEM_LOCATION_TYPE_DEVICE, 1), CUDA_SUCCESS);
  EXPECT_NE(cuMemsetD8(va, 1, kChunk), CUDA_SUCCESS);
  ASSERT_EQ(Allow(va, kChunk, CU_MEM_LOCATION_TYPE_DEVICE, 0), CUDA_SUCCESS);
  EXPECT_EQ(cuMemsetD8(va, 1, kChunk), CUDA_SUCCESS);
  EXPECT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_EQ(cuMemRelease(handle), CUDA_SUCCESS);
  Drop(va, kChunk);
}

TEST_F(MemoryTest, ManagedMemoryIsOneForHostAndDevice) {
  CUdeviceptr address = 0;
  ASSERT_EQ(cuMemAllocManaged(&address, 8000, CU_MEM_ATTACH_GLOBAL), CUDA_SUCCESS);
  auto* words = reinterpret_cast<uint64_t*>(address);
  ASSERT_EQ(Launch("gpuroom_fill", nullptr, {address, 1000, 3}), CUDA_SUCCESS);
  ASSERT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
  EXPECT_NE(words[999], 0U);
  EXPECT_EQ(cuMemFree(address), CUDA_SUCCESS);
}

TEST_F(MemoryTest, APoolKeepsWhatItsThresholdAllows) {
  CUmemoryPool pool = nullptr;
  ASSERT_EQ(cuDeviceGetDefaultMemPool(&pool, 0), CUDA_SUCCESS);
  for (const cuuint64_t threshold : {uint64_t{0}, UINT64_MAX}) {
    cuuint64_t value = threshold;
    ASSERT_EQ(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &value), CUDA_SUCCESS);
    CUdeviceptr address = 0;
    ASSERT_EQ(cuMemAllocAsync(&address, 4 * kMega, nullptr), CUDA_SUCCESS);
    ASSERT_EQ(cuMemFreeAsync(address, nullptr), CUDA_SUCCESS);
    EXPECT_NE(cuMemFreeAsync(address, nullptr), CUDA_SUCCESS);
    ASSERT_EQ(cuStreamSynchronize(nullptr), CUDA_SUCCESS);
    EXPECT_EQ(gpuroom_sim_used(0), threshold == 0 ? 0 : 4 * kMega);
  }
  EXPECT_EQ(cuMemPoolTrimTo(pool, 0), CUDA_SUCCESS);
  EXPECT_EQ(gpuroom_sim_used(0), 0U);
}

TEST_F(MemoryTest, LegacyIpcServesAllocationsAndRefusesMappings) {
  CUipcMemHandle handle;
  CUdeviceptr address = 0;
  ASSERT_EQ(cuMemAlloc(&address, kChunk), CUDA_SUCCESS);
  EXPECT_EQ(cuIpcGetMemHandle(&handle, address), CUDA_SUCCESS);
  EXPECT_EQ(cuMemFree(address), CUDA_SUCCESS);
  const CUdeviceptr va = MixedRange(1);
  EXPECT_NE(cuIpcGetMemHandle(&handle, va), CUDA_SUCCESS);
  Drop(va, kChunk);
}

TEST_F(MemoryDeathTest, TheHostFaultsOnDeviceMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  CUdeviceptr address = 0;
  ASSERT_EQ(cuMemAlloc(&address, kChunk), CUDA_SUCCESS);
  // Under a sanitizer the fault ends the process with a report instead.
  EXPECT_DEATH(*reinterpret_cast<volatile char*>(address) = 1, "");
  EXPECT_EQ(cuMemFree(address), CUDA_SUCCESS);
}

TEST(StrictDeathTest, LeaksFailAStrictProcess) {
  // Under an emulator the kernel cannot execute the program again; this process has no thread yet.
  GTEST_FLAG_SET(death_test_style, GPUROOM_EMULATED ? "fast" : "threadsafe");
  EXPECT_EXIT(
      {
        setenv("GPUROOM_SIM_STRICT", "1", 1);
        CUdeviceptr va = 0;
        cuInit(0);
        cuMemAddressReserve(&va, kChunk, 0, 0, 0);
        exit(0);
      },
      ::testing::ExitedWithCode(86), "leak: reservation");
}

TEST(StrictDeathTest, AForkedChildIsNotInitialized) {
  ASSERT_EQ(cuInit(0), CUDA_SUCCESS);
  const pid_t child = fork();
  if (child == 0) {
    int count = 0;
    _exit(cuDeviceGetCount(&count) == CUDA_ERROR_NOT_INITIALIZED ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace gpuroom::sim
