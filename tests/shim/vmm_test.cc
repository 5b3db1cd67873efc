// The program's own cuMemCreate, as PyTorch's expandable segments use it: in HBM, on the
// host, and in several chunks; released before and after it is unmapped.
#include <unistd.h>

#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

using Handle = CUmemGenericAllocationHandle;

class VmmTest : public ShimTest {
 protected:
  Handle Create(uint64_t bytes, int device = 0) {
    const CUmemAllocationProp prop = DeviceMemory(device);
    Handle handle = 0;
    EXPECT_CU(Cu().MemCreate(&handle, bytes, &prop, 0));
    return handle;
  }
  CUdeviceptr Reserve(uint64_t bytes) {
    CUdeviceptr va = 0;
    EXPECT_CU(Cu().MemAddressReserve(&va, bytes, 0, 0, 0));
    return va;
  }
  void Map(CUdeviceptr va, uint64_t bytes, Handle handle) {
    EXPECT_CU(Cu().MemMap(va, bytes, 0, handle, 0));
    const CUmemAccessDesc access = DeviceAccess();
    EXPECT_CU(Cu().MemSetAccess(va, bytes, &access, 1));
  }
};

// Where `bytes` end up with the limits of shim_test.h.
enum class Kind { kSmall, kDevice, kSpilled, kComposite };
uint64_t BytesOf(Kind kind) {
  switch (kind) {
    case Kind::kSmall: return 2 * kMiB;
    case Kind::kDevice: return 32 * kMiB;
    case Kind::kSpilled: return kSpilled;
    case Kind::kComposite: return kMixed;
  }
  return 0;
}

class MappedTest : public VmmTest, public testing::WithParamInterface<Kind> {
 protected:
  uint64_t bytes() const { return BytesOf(GetParam()); }
  uint64_t HostBytes() const {
    if (GetParam() == Kind::kSpilled) return bytes();
    return GetParam() == Kind::kComposite ? bytes() - kForRanges : 0;
  }
};

TEST_P(MappedTest, LiesWhereThereIsRoomAndHoldsWhatIsPutThere) {
  const Handle handle = Create(bytes());
  EXPECT_EQ(GetSim().used(-1), HostBytes());
  EXPECT_EQ(GetSim().used(0), bytes() - HostBytes());
  EXPECT_EQ(MemInfo().free, before_.free - bytes());
  const CUdeviceptr va = Reserve(bytes());
  Map(va, bytes(), handle);
  Fill(va, bytes(), 4);
  EXPECT_EQ(CountBad(va, bytes(), 4), 0u);
  EXPECT_CU(Cu().MemUnmap(va, bytes()));
  EXPECT_EQ(MemInfo().free, before_.free - bytes());
  // Mapped elsewhere it is still the same memory.
  const CUdeviceptr other = Reserve(bytes() + 2 * kMiB);
  Map(other + 2 * kMiB, bytes(), handle);
  EXPECT_EQ(CountBad(other + 2 * kMiB, bytes(), 4), 0u);
  EXPECT_CU(Cu().MemUnmap(other + 2 * kMiB, bytes()));
  EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_EQ(MemInfo(), before_);
  EXPECT_CU(Cu().MemAddressFree(other, bytes() + 2 * kMiB));
  EXPECT_CU(Cu().MemAddressFree(va, bytes()));
}

TEST_P(MappedTest, MayBeReleasedBeforeItIsUnmapped) {
  const Handle handle = Create(bytes());
  const CUdeviceptr va = Reserve(bytes());
  Map(va, bytes(), handle);
  EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_EQ(MemInfo().free, before_.free - bytes());  // the mapping keeps it
  Fill(va, bytes(), 6);
  EXPECT_EQ(CountBad(va, bytes(), 6), 0u);
  EXPECT_CU(Cu().MemUnmap(va, bytes()));
  EXPECT_EQ(MemInfo(), before_);
  EXPECT_CU(Cu().MemAddressFree(va, bytes()));
}

TEST_P(MappedTest, ASecondReleaseIsRefused) {
  const Handle handle = Create(bytes());
  const CUdeviceptr va = Reserve(bytes());
  Map(va, bytes(), handle);
  EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_CU_IS(Cu().MemRelease(handle), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU(Cu().MemUnmap(va, bytes()));
  EXPECT_CU_IS(Cu().MemRelease(handle), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU(Cu().MemAddressFree(va, bytes()));
  GetSim().clear_strict_errors();
}

TEST_P(MappedTest, RetainAddsAReference) {
  const Handle handle = Create(bytes());
  const CUdeviceptr va = Reserve(bytes());
  Map(va, bytes(), handle);
  Handle again = 0;
  EXPECT_CU(Cu().MemRetainAllocationHandle(&again, reinterpret_cast<void*>(va + bytes() - 1)));
  EXPECT_EQ(again, handle);
  EXPECT_CU(Cu().MemUnmap(va, bytes()));
  EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_EQ(MemInfo().free, before_.free - bytes());
  EXPECT_CU(Cu().MemRelease(again));
  EXPECT_EQ(MemInfo(), before_);
  EXPECT_CU(Cu().MemAddressFree(va, bytes()));
}

// Its chunks may be replaced by others at any time.
TEST_F(VmmTest, WhatCuMemAllocGaveHasNoHandle) {
  for (const uint64_t bytes : {uint64_t{4096}, kThreshold, kSpilled}) {
    const CUdeviceptr p = Alloc(bytes);
    Handle handle = 0;
    EXPECT_CU_IS(Cu().MemRetainAllocationHandle(&handle, reinterpret_cast<void*>(p)),
                 CUDA_ERROR_INVALID_VALUE);
    Free(p);
  }
  GetSim().clear_strict_errors();
}

TEST_P(MappedTest, ReleasingTwiceIsRefused) {
  const Handle handle = Create(bytes());
  EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_CU_IS(Cu().MemRelease(handle), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(MemInfo(), before_);
  GetSim().clear_strict_errors();
}

TEST_P(MappedTest, CallsItselfDeviceMemory) {
  const Handle handle = Create(bytes());
  CUmemAllocationProp prop{};
  EXPECT_CU(Cu().MemGetAllocationPropertiesFromHandle(&prop, handle));
  EXPECT_EQ(prop.type, CU_MEM_ALLOCATION_TYPE_PINNED);
  EXPECT_EQ(prop.location.type, CU_MEM_LOCATION_TYPE_DEVICE);
  EXPECT_EQ(prop.location.id, 0);
  const CUdeviceptr va = Reserve(bytes());
  Map(va, bytes(), handle);
  const CUdeviceptr at = va + bytes() - 4096;
  unsigned type = 0;
  EXPECT_CU(Cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, at));
  EXPECT_EQ(type, unsigned{CU_MEMORYTYPE_DEVICE});
  CUdeviceptr base = 0;
  size_t size = 0;
  EXPECT_CU(Cu().MemGetAddressRange(&base, &size, at));
  EXPECT_EQ(base, va);
  EXPECT_EQ(size, bytes());
  EXPECT_CU(Cu().MemUnmap(va, bytes()));
  EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_CU(Cu().MemAddressFree(va, bytes()));
}

TEST_P(MappedTest, ABadMapLeavesNothingBehind) {
  const Handle handle = Create(bytes());
  const CUdeviceptr va = Reserve(bytes());
  EXPECT_NE(Cu().MemMap(va, bytes(), 2 * kMiB, handle, 0), CUDA_SUCCESS);
  EXPECT_NE(Cu().MemMap(va, bytes() / 2, 0, handle, 0), CUDA_SUCCESS);
  EXPECT_NE(Cu().MemMap(va + 2 * kMiB, bytes(), 0, handle, 0), CUDA_SUCCESS);
  GetSim().clear_strict_errors();
  Map(va, bytes(), handle);
  EXPECT_CU(Cu().MemUnmap(va, bytes()));
  EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_CU(Cu().MemAddressFree(va, bytes()));
}

std::string KindName(const testing::TestParamInfo<Kind>& test) {
  constexpr const char* kNames[] = {"Small", "Device", "Spilled", "Composite"};
  return kNames[static_cast<int>(test.param)];
}

INSTANTIATE_TEST_SUITE_P(Placement, MappedTest,
                         testing::Values(Kind::kSmall, Kind::kDevice, Kind::kSpilled, Kind::kComposite),
                         KindName);

TEST_F(VmmTest, SegmentsOfManyChunksSpillOneByOne) {
  // As expandable segments do: one reservation, chunks of 20 MiB side by side.
  constexpr uint64_t kChunk = 20 * kMiB;
  const CUdeviceptr va = Reserve(6 * kChunk);
  std::vector<Handle> handles;
  for (uint64_t i = 0; i < 6; ++i) {
    handles.push_back(Create(kChunk));
    Map(va + i * kChunk, kChunk, handles.back());
  }
  EXPECT_EQ(GetSim().used(-1), 4 * kChunk);
  const CUmemAllocationProp prop = DeviceMemory();
  Handle none = 0;
  EXPECT_CU_IS(Cu().MemCreate(&none, 2 * kChunk, &prop, 0), CUDA_ERROR_OUT_OF_MEMORY);
  Fill(va, 6 * kChunk, 8);
  EXPECT_EQ(CountBad(va, 6 * kChunk, 8), 0u);
  EXPECT_CU(Cu().MemUnmap(va, 6 * kChunk));  // all at once
  for (const Handle handle : handles) EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_CU(Cu().MemAddressFree(va, 6 * kChunk));
}

TEST_F(VmmTest, SpilledMemoryIsExportedAndItsChunkNeverReused) {
  CUmemAllocationProp prop = DeviceMemory();
  prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  Handle handle = 0;
  ASSERT_CU(Cu().MemCreate(&handle, kSpilled, &prop, 0));
  int file = -1;
  ASSERT_CU(Cu().MemExportToShareableHandle(&file, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
  const CUdeviceptr va = Reserve(2 * kSpilled);
  Map(va, kSpilled, handle);
  Fill(va, kMiB, 3);
  EXPECT_EQ(CountBad(va, kMiB, 3), 0u);
  Handle imported = 0;
  ASSERT_CU(Cu().MemImportFromShareableHandle(&imported, reinterpret_cast<void*>(static_cast<intptr_t>(file)),
                                              CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
  Map(va + kSpilled, kSpilled, imported);
  EXPECT_EQ(CountBad(va + kSpilled, kMiB, 3), 0u);
  EXPECT_CU(Cu().MemUnmap(va, 2 * kSpilled));
  EXPECT_CU(Cu().MemRelease(imported));
  EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_FALSE(BeginsEarly());  // for good: what is imported may be mapped for longer than its handle lives
  EXPECT_CU(Cu().MemAddressFree(va, 2 * kSpilled));
  close(file);
}

TEST_F(VmmTest, CompositeMemoryCannotBeExported) {
  CUmemAllocationProp prop = DeviceMemory();
  prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  Handle handle = 0;
  ASSERT_CU(Cu().MemCreate(&handle, kMixed, &prop, 0));
  int file = -1;
  EXPECT_CU_IS(Cu().MemExportToShareableHandle(&file, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
               CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_CU(Cu().MemRelease(handle));
}

TEST_F(VmmTest, BadRequestsGetTheDriversOwnAnswer) {
  Handle handle = 0;
  CUmemAllocationProp prop = DeviceMemory(99);
  EXPECT_CU_IS(Cu().MemCreate(&handle, 2 * kMiB, &prop, 0), CUDA_ERROR_INVALID_DEVICE);
  prop = DeviceMemory();
  EXPECT_CU_IS(Cu().MemCreate(&handle, 3 * kMiB, &prop, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU_IS(Cu().MemCreate(&handle, 2 * kMiB, nullptr, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU_IS(Cu().MemCreate(nullptr, 2 * kMiB, &prop, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU_IS(Cu().MemCreate(&handle, uint64_t{1} << 50, &prop, 0), CUDA_ERROR_OUT_OF_MEMORY);
  GetSim().clear_strict_errors();
}

TEST_F(VmmTest, WhatTheDriverNeverMakesIsRefusedByItsOwnCodeBeforeAnythingMoves) {
  CUdeviceptr old = 0;
  EXPECT_CU(Cu().MemAlloc(&old, kForRanges));  // HBM is full, of what could give way
  const uint64_t on_host = GetSim().used(-1);
  for (const auto types : {CU_MEM_HANDLE_TYPE_FABRIC, CU_MEM_HANDLE_TYPE_WIN32}) {
    CUmemAllocationProp prop = DeviceMemory();
    prop.requestedHandleTypes = types;
    for (const uint64_t bytes : {2 * kMiB, 32 * kMiB, kSpilled}) {
      Handle handle = 0;
      const CUresult wanted =
          types == CU_MEM_HANDLE_TYPE_FABRIC ? CUDA_ERROR_NOT_PERMITTED : CUDA_ERROR_NOT_SUPPORTED;
      EXPECT_EQ(Cu().MemCreate(&handle, bytes, &prop, 0), wanted) << bytes;
      EXPECT_EQ(GetSim().used(-1), on_host);
      EXPECT_EQ(GetSim().used(0), kForRanges);
    }
  }
  // And a kind that the driver makes is made, once the old data has given way.
  CUmemAllocationProp prop = DeviceMemory();
  prop.allocFlags.gpuDirectRDMACapable = 1;
  Handle handle = 0;
  EXPECT_CU(Cu().MemCreate(&handle, 32 * kMiB, &prop, 0));
  EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_CU(Cu().MemFree(old));
  EXPECT_EQ(MemInfo(), before_);
}

TEST_F(VmmTest, TheProgramsOwnHostMemoryPassesThrough) {
  CUmemAllocationProp prop = DeviceMemory();
  prop.location = {CU_MEM_LOCATION_TYPE_HOST_NUMA, {0}};
  Handle handle = 0;
  ASSERT_CU(Cu().MemCreate(&handle, 200 * kMiB, &prop, 0));
  EXPECT_EQ(MemInfo(), before_);  // no business of the limits
  EXPECT_CU(Cu().MemRelease(handle));
}

TEST_F(VmmTest, MemoryOfFinishedAsyncFreesServesACreate) {
  CUdeviceptr p = 0;
  const CUstream stream = NewStream();
  ASSERT_CU(Cu().MemAllocAsync(&p, 88 * kMiB, stream));
  ASSERT_EQ(PlacementOf(p).host_bytes, 88 * kMiB - kForRanges);
  ASSERT_CU(Cu().MemFreeAsync(p, stream));
  ASSERT_CU(Cu().StreamSynchronize(stream));
  const Handle handle = Create(88 * kMiB);
  EXPECT_EQ(GetSim().used(-1), 88 * kMiB);
  EXPECT_CU(Cu().MemRelease(handle));
  EXPECT_CU(Cu().StreamDestroy(stream));
}

}  // namespace
}  // namespace gpuroom::shim_test
