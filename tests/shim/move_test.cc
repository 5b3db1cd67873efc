// Memory that moves between tiers: when something else needs its place, and when the program asks.
#include <unistd.h>

#include "shim_test.h"

namespace headroom::shim_test {
namespace {

class MoveTest : public ShimTest {
 protected:
  CUdeviceptr AllocHot(uint64_t bytes) {
    EXPECT_EQ(headroom_set_thread_hint(HEADROOM_HINT_HOT, nullptr), HEADROOM_OK);
    const CUdeviceptr p = Alloc(bytes);
    EXPECT_EQ(headroom_set_thread_hint(HEADROOM_HINT_NONE, nullptr), HEADROOM_OK);
    EXPECT_EQ(PlacementOf(p).device_bytes, bytes);
    return p;
  }
  // What a program gets that shares it: several chunks are refused.
  static CUresult Export(const Mapped& mapped) {
    int file = -1;
    const CUresult result =
        Cu().MemExportToShareableHandle(&file, mapped.handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    if (file >= 0) close(file);
    return result;
  }
};

// What lay in one chunk lies in one again wherever it went, since several cannot be exported: though
// smaller ones are kept on the host, and HBM is otherwise filled by chunks of 32 MiB.
TEST_F(MoveTest, WhatMovedCanStillBeExported) {
  constexpr uint64_t kOneChunk = 40 * kMiB;
  Free(AllocOnHost(20 * kMiB));
  for (const std::vector<int>& way :
       std::vector<std::vector<int>>{{HEADROOM_TIER_HOST}, {HEADROOM_TIER_HOST, HEADROOM_TIER_DEVICE}}) {
    const Mapped mapped(kOneChunk, 1, 0, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    Fill(mapped.va, kOneChunk, 4);
    for (const int tier : way) {
      ASSERT_EQ(headroom_range_migrate(mapped.va, 0, tier), HEADROOM_OK) << headroom_last_error();
    }
    const Placement placement = PlacementOf(mapped.va);
    EXPECT_EQ(way.back() == HEADROOM_TIER_HOST ? placement.host_bytes : placement.device_bytes, kOneChunk);
    EXPECT_EQ(CountBad(mapped.va, kOneChunk, 4), 0u);
    EXPECT_CU(Export(mapped));
    mapped.Free();
  }
  EXPECT_EQ(headroom_trim(0), HEADROOM_OK);
}

TEST_F(MoveTest, WhatHasNoRoomInOneChunkMovesInSeveral) {
  constexpr uint64_t kOneChunk = 40 * kMiB;
  const Mapped mapped(kOneChunk, 1, 0, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  Fill(mapped.va, kOneChunk, 4);
  EXPECT_CU(Cu().CtxSynchronize());
  ASSERT_EQ(headroom_range_migrate(mapped.va, 0, HEADROOM_TIER_HOST), HEADROOM_OK) << headroom_last_error();
  GetSim().fail("cuMemCreate:1:CUDA_ERROR_OUT_OF_MEMORY");
  ASSERT_EQ(headroom_range_migrate(mapped.va, 0, HEADROOM_TIER_DEVICE), HEADROOM_OK) << headroom_last_error();
  EXPECT_EQ(PlacementOf(mapped.va).device_bytes, kOneChunk);
  EXPECT_EQ(CountBad(mapped.va, kOneChunk, 4), 0u);
  // And comes to lie in one again.
  for (const int tier : {HEADROOM_TIER_HOST, HEADROOM_TIER_DEVICE}) {
    ASSERT_EQ(headroom_range_migrate(mapped.va, 0, tier), HEADROOM_OK) << headroom_last_error();
  }
  EXPECT_EQ(CountBad(mapped.va, kOneChunk, 4), 0u);
  EXPECT_CU(Export(mapped));
  mapped.Free();
  EXPECT_EQ(headroom_trim(0), HEADROOM_OK);
}

TEST_F(MoveTest, AdjacentChunksGiveWayByOneCopy) {
  const CUdeviceptr old = Alloc(kForRanges);  // 32 MiB and 16
  Fill(old, kForRanges, 5);
  EXPECT_CU(Cu().CtxSynchronize());
  const uint64_t copies = GetSim().call_count("cuMemcpyDtoDAsync");
  const CUdeviceptr hot = AllocHot(kForRanges);
  EXPECT_EQ(GetSim().call_count("cuMemcpyDtoDAsync") - copies, 1u);
  EXPECT_EQ(PlacementOf(old).host_bytes, kForRanges);
  EXPECT_EQ(CountBad(old, kForRanges, 5), 0u);
  Free(hot);
  Free(old);
}

TEST_F(MoveTest, OneMoveThatFailsLeavesTheOthersRight) {
  const CUdeviceptr p = Alloc(kSpilled);  // HBM's chunks and the host's alternate
  Fill(p, kSpilled, 6);
  EXPECT_CU(Cu().CtxSynchronize());
  const uint64_t host_bytes = PlacementOf(p).host_bytes;
  GetSim().fail("cuMemCreate:2:CUDA_ERROR_UNKNOWN");
  EXPECT_EQ(headroom_range_migrate(p, 0, HEADROOM_TIER_HOST), HEADROOM_FAILED);
  GetSim().fail("");
  EXPECT_GT(PlacementOf(p).host_bytes, host_bytes);
  EXPECT_GT(PlacementOf(p).device_bytes, 0u);
  EXPECT_EQ(PlacementOf(p).host_bytes + PlacementOf(p).device_bytes, kSpilled);
  EXPECT_EQ(CountBad(p, kSpilled, 6), 0u);
  ASSERT_EQ(headroom_range_migrate(p, 0, HEADROOM_TIER_HOST), HEADROOM_OK) << headroom_last_error();
  EXPECT_EQ(PlacementOf(p).host_bytes, kSpilled);
  EXPECT_EQ(CountBad(p, kSpilled, 6), 0u);
  Free(p);
}

// Device 0 may use device 1's memory (HEADROOM_PEERS).
using PeerLoanTest = MoveTest;

TEST_F(PeerLoanTest, WhatGivesWayGoesToThePeer) {
  const CUdeviceptr old = Alloc(32 * kMiB);
  Fill(old, 32 * kMiB, 7);
  const CUdeviceptr hot = AllocHot(kForRanges);
  EXPECT_EQ(GetSim().used(1), 32 * kMiB);
  EXPECT_EQ(CountBad(old, 32 * kMiB, 7), 0u);
  Free(hot);
  Free(old);
}

// Its budget does not know what other processes use there.
TEST_F(PeerLoanTest, WhatGivesWayGoesToTheHostIfThePeerIsFull) {
  const CUdeviceptr old = Alloc(32 * kMiB);
  Fill(old, 32 * kMiB, 7);
  EXPECT_CU(Cu().CtxSynchronize());
  GetSim().fail("cuMemCreate:1:CUDA_ERROR_OUT_OF_MEMORY");
  const CUdeviceptr hot = AllocHot(kForRanges);
  EXPECT_EQ(GetSim().used(1), 0u);
  EXPECT_EQ(PlacementOf(old).host_bytes, 32 * kMiB);
  EXPECT_EQ(CountBad(old, 32 * kMiB, 7), 0u);
  Free(hot);
  Free(old);
}

// Under `balanced`, in 256 MiB of HBM and the reserve: ctest sets both.
class EvenTest : public MoveTest {
 protected:
  static constexpr uint64_t kSize = 64 * kMiB;

  // `count` of them, filled, the oldest first.
  std::vector<CUdeviceptr> AllocData(int count) {
    std::vector<CUdeviceptr> data;
    for (int i = 0; i < count; ++i) {
      data.push_back(Alloc(kSize));
      Fill(data.back(), kSize, static_cast<uint32_t>(10 + i));
    }
    return data;
  }
  void ExpectContents(const std::vector<CUdeviceptr>& data) {
    for (size_t i = 0; i < data.size(); ++i) {
      EXPECT_EQ(CountBad(data[i], kSize, static_cast<uint32_t>(10 + i)), 0u) << i;
    }
  }
  void FreeAll(const std::vector<CUdeviceptr>& data) {
    for (const CUdeviceptr p : data) Free(p);
  }
};

// The links run together then, whichever of it is read.
TEST_F(EvenTest, OldDataGivesWayInEqualParts) {
  std::vector<CUdeviceptr> data = AllocData(4);
  data.push_back(Alloc(kSize));
  Fill(data.back(), kSize, 14);
  EXPECT_EQ(PlacementOf(data[4]).host_bytes, 0u);
  EXPECT_EQ(PlacementOf(data[3]).host_bytes, 0u);  // too young
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(PlacementOf(data[i]).host_bytes, kSize / 3, 2 * kMiB) << i;
  ExpectContents(data);
  // What gave way before gives less.
  data.push_back(Alloc(kSize));
  Fill(data.back(), kSize, 15);
  EXPECT_EQ(PlacementOf(data[5]).host_bytes, 0u);
  EXPECT_EQ(PlacementOf(data[4]).host_bytes, 0u);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(PlacementOf(data[i]).host_bytes, kSize / 2, 2 * kMiB) << i;
  ExpectContents(data);
  FreeAll(data);
}

// Of one range, too: nothing of what gives way is adjacent, or one copy would do for it.
TEST_F(EvenTest, WhatGivesWayLiesApart) {
  const std::vector<CUdeviceptr> data = AllocData(4);
  EXPECT_CU(Cu().CtxSynchronize());
  const uint64_t copies = GetSim().call_count("cuMemcpyDtoDAsync");
  const CUdeviceptr more = Alloc(kThreshold);
  EXPECT_EQ(GetSim().call_count("cuMemcpyDtoDAsync") - copies, kThreshold / (2 * kMiB));
  ExpectContents(data);
  Free(more);
  FreeAll(data);
}

TEST_F(EvenTest, ColdDataGivesWayFirst) {
  const CUdeviceptr read_once = AllocHinted(HEADROOM_HINT_STREAM, kSize);
  const uint64_t before = PlacementOf(read_once).device_bytes;
  const std::vector<CUdeviceptr> data = AllocData(3);
  const CUdeviceptr more = Alloc(kSize / 2);
  EXPECT_LE(PlacementOf(read_once).device_bytes, before - kSize / 2 + 4 * kMiB);
  for (const CUdeviceptr p : data) EXPECT_EQ(PlacementOf(p).host_bytes, 0u);
  ExpectContents(data);
  Free(more);
  Free(read_once);
  FreeAll(data);
}

// What the program may export gives way whole.
TEST_F(EvenTest, SharedPiecesGiveWayWhole) {
  std::vector<Mapped> pieces;
  for (int i = 0; i < 4; ++i) {
    pieces.emplace_back(kSize, 1, 0, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    Fill(pieces.back().va, kSize, static_cast<uint32_t>(10 + i));
  }
  const CUdeviceptr more = Alloc(kThreshold);
  uint64_t away = 0;
  for (const Mapped& piece : pieces) {
    const uint64_t host_bytes = PlacementOf(piece.va).host_bytes;
    EXPECT_TRUE(host_bytes == 0 || host_bytes == kSize) << host_bytes;
    away += host_bytes;
    EXPECT_CU(Export(piece));
  }
  EXPECT_EQ(away, kSize);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(CountBad(pieces[static_cast<size_t>(i)].va, kSize, static_cast<uint32_t>(10 + i)), 0u) << i;
  }
  Free(more);
  for (const Mapped& piece : pieces) piece.Free();
}

}  // namespace
}  // namespace headroom::shim_test
