// Memory that moves between tiers: when something else needs its place, and when the program asks.
#include <unistd.h>

#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

class MoveTest : public ShimTest {
 protected:
  CUdeviceptr AllocHot(uint64_t bytes) {
    const CUdeviceptr p = ShimTest::AllocHot(bytes);
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

// The streams of a move end with it, also where the driver refuses at first to destroy one.
TEST_F(MoveTest, AStreamWhoseEndFailsOnceIsNotLeft) {
  const CUdeviceptr p = Alloc(kThreshold);
  Fill(p, kThreshold, 3);
  EXPECT_CU(Cu().CtxSynchronize());
  const uint64_t made = GetSim().call_count("cuStreamCreate");
  const uint64_t ended = GetSim().call_count("cuStreamDestroy");
  GetSim().fail("cuStreamDestroy:1");
  ASSERT_EQ(gpuroom_range_migrate(p, 0, GPUROOM_TIER_HOST), GPUROOM_OK) << gpuroom_last_error();
  GetSim().fail("");
  const uint64_t streams = GetSim().call_count("cuStreamCreate") - made;
  EXPECT_GT(streams, 0u);
  EXPECT_EQ(GetSim().call_count("cuStreamDestroy") - ended, streams + 1);
  Free(p);
}

// What lay in one chunk lies in one again wherever it went, since several cannot be exported: though
// smaller ones are kept on the host, and HBM is otherwise filled by chunks of 32 MiB.
TEST_F(MoveTest, WhatMovedCanStillBeExported) {
  constexpr uint64_t kOneChunk = 40 * kMiB;
  Free(AllocOnHost(20 * kMiB));
  for (const std::vector<int>& way :
       std::vector<std::vector<int>>{{GPUROOM_TIER_HOST}, {GPUROOM_TIER_HOST, GPUROOM_TIER_DEVICE}}) {
    const Mapped mapped(kOneChunk, 1, 0, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    Fill(mapped.va, kOneChunk, 4);
    for (const int tier : way) {
      ASSERT_EQ(gpuroom_range_migrate(mapped.va, 0, tier), GPUROOM_OK) << gpuroom_last_error();
    }
    const Placement placement = PlacementOf(mapped.va);
    EXPECT_EQ(way.back() == GPUROOM_TIER_HOST ? placement.host_bytes : placement.device_bytes, kOneChunk);
    EXPECT_EQ(CountBad(mapped.va, kOneChunk, 4), 0u);
    EXPECT_CU(Export(mapped));
    mapped.Free();
  }
  EXPECT_EQ(gpuroom_trim(0), GPUROOM_OK);
}

TEST_F(MoveTest, WhatHasNoRoomInOneChunkMovesInSeveral) {
  constexpr uint64_t kOneChunk = 40 * kMiB;
  const Mapped mapped(kOneChunk, 1, 0, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  Fill(mapped.va, kOneChunk, 4);
  EXPECT_CU(Cu().CtxSynchronize());
  ASSERT_EQ(gpuroom_range_migrate(mapped.va, 0, GPUROOM_TIER_HOST), GPUROOM_OK) << gpuroom_last_error();
  GetSim().fail("cuMemCreate:1:CUDA_ERROR_OUT_OF_MEMORY");
  ASSERT_EQ(gpuroom_range_migrate(mapped.va, 0, GPUROOM_TIER_DEVICE), GPUROOM_OK) << gpuroom_last_error();
  EXPECT_EQ(PlacementOf(mapped.va).device_bytes, kOneChunk);
  EXPECT_EQ(CountBad(mapped.va, kOneChunk, 4), 0u);
  // And comes to lie in one again.
  for (const int tier : {GPUROOM_TIER_HOST, GPUROOM_TIER_DEVICE}) {
    ASSERT_EQ(gpuroom_range_migrate(mapped.va, 0, tier), GPUROOM_OK) << gpuroom_last_error();
  }
  EXPECT_EQ(CountBad(mapped.va, kOneChunk, 4), 0u);
  EXPECT_CU(Export(mapped));
  mapped.Free();
  EXPECT_EQ(gpuroom_trim(0), GPUROOM_OK);
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
  GetSim().fail("cuMemCreate:2:CUDA_ERROR_LAUNCH_FAILED");
  EXPECT_EQ(gpuroom_range_migrate(p, 0, GPUROOM_TIER_HOST), GPUROOM_FAILED);
  GetSim().fail("");
  EXPECT_GT(PlacementOf(p).host_bytes, host_bytes);
  EXPECT_GT(PlacementOf(p).device_bytes, 0u);
  EXPECT_EQ(PlacementOf(p).host_bytes + PlacementOf(p).device_bytes, kSpilled);
  EXPECT_EQ(CountBad(p, kSpilled, 6), 0u);
  ASSERT_EQ(gpuroom_range_migrate(p, 0, GPUROOM_TIER_HOST), GPUROOM_OK) << gpuroom_last_error();
  EXPECT_EQ(PlacementOf(p).host_bytes, kSpilled);
  EXPECT_EQ(CountBad(p, kSpilled, 6), 0u);
  Free(p);
}

// Streams and events of a move go, though the driver fails once to destroy them.
TEST_F(MoveTest, WhatAMoveMadeIsDestroyedThoughTheDriverFailsOnce) {
  const CUdeviceptr p = Alloc(kForRanges);
  for (const char* kind : {"cuStream", "cuEvent"}) {
    const std::string create = std::string(kind) + "Create";
    const std::string destroy = std::string(kind) + "Destroy";
    const auto calls = [&](const std::string& name) { return GetSim().call_count(name.c_str()); };
    const uint64_t created = calls(create);
    const uint64_t destroyed = calls(destroy);
    GetSim().fail((destroy + ":1").c_str());
    EXPECT_EQ(gpuroom_range_migrate(p, 0, GPUROOM_TIER_HOST), GPUROOM_OK) << gpuroom_last_error();
    GetSim().fail("");
    EXPECT_GT(calls(create), created);
    EXPECT_EQ(calls(destroy) - destroyed, calls(create) - created + 1) << kind;  // and the one that failed
    EXPECT_EQ(gpuroom_range_migrate(p, 0, GPUROOM_TIER_DEVICE), GPUROOM_OK) << gpuroom_last_error();
  }
  Free(p);
}

// As on a card that others keep full: for a while there is no memory for page tables.
TEST_F(MoveTest, WhatCannotBeMappedForAWhileIsMappedAgainInTheEnd) {
  const CUdeviceptr p = Alloc(kForRanges);
  Fill(p, kForRanges, 7);
  EXPECT_CU(Cu().CtxSynchronize());
  const uint64_t before = GetSim().call_count("cuMemSetAccess");
  GetSim().fail("cuMemSetAccess:2+");  // the first is of the scratch mapping
  std::thread others([before] {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    const auto tried = [before] { return GetSim().call_count("cuMemSetAccess") - before; };
    while (tried() < 30 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    GetSim().fail("");
  });
  EXPECT_EQ(gpuroom_range_migrate(p, 0, GPUROOM_TIER_HOST), GPUROOM_OUT_OF_MEMORY);
  others.join();
  EXPECT_EQ(PlacementOf(p).device_bytes, kForRanges);
  EXPECT_EQ(CountBad(p, kForRanges, 7), 0u);
  Free(p);
}

// Last of its process, in which no kernel runs afterwards.
TEST(LostTest, WhereMemoryCannotBeMappedAgainNoKernelRuns) {
  UseDevice(0);
  CUdeviceptr p = 0;
  CUdeviceptr small = 0;
  ASSERT_CU(Cu().MemAlloc(&small, 4096));
  ASSERT_CU(Cu().MemAlloc(&p, kForRanges));
  Fill(p, kForRanges, 8);
  ASSERT_CU(Cu().CtxSynchronize());
  GetSim().fail("cuMemSetAccess:2+");
  EXPECT_EQ(gpuroom_range_migrate(p, 0, GPUROOM_TIER_HOST), GPUROOM_OUT_OF_MEMORY);
  GetSim().fail("");
  EXPECT_EQ(Cu().MemsetD32(small, 0, 4), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Cu().MemsetD32(p, 0, 4), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Cu().StreamBeginCapture(nullptr, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_CU(Cu().CtxSynchronize());
  EXPECT_CU(Cu().MemFree(p));
  EXPECT_CU(Cu().MemFree(small));
  EXPECT_EQ(StrictErrors(), "");
}

// Device 0 may use device 1's memory (GPUROOM_PEERS).
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

// Under `balanced`, in 384 MiB of HBM and the reserve: ctest sets both.
class EvenTest : public MoveTest {
 protected:
  static constexpr uint64_t kSize = 64 * kMiB;
  static constexpr int kCount = 6;  // fill HBM; the last is young

  // Fills HBM, the oldest first.
  std::vector<CUdeviceptr> AllocData() {
    std::vector<CUdeviceptr> data;
    for (int i = 0; i < kCount; ++i) {
      data.push_back(Alloc(kSize));
      Fill(data.back(), kSize, static_cast<uint32_t>(10 + i));
    }
    EXPECT_CU(Cu().CtxSynchronize());
    return data;
  }
  void FreeChecked(const std::vector<CUdeviceptr>& data) {
    for (size_t i = 0; i < data.size(); ++i) {
      EXPECT_EQ(CountBad(data[i], kSize, static_cast<uint32_t>(10 + i)), 0u) << i;
      Free(data[i]);
    }
  }
};

// The links run together then, whichever of it is read.
TEST_F(EvenTest, OldDataGivesWayInEqualParts) {
  const std::vector<CUdeviceptr> data = AllocData();
  const CUdeviceptr more = Alloc(20 * kMiB);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(PlacementOf(data[i]).host_bytes, 4 * kMiB) << i;
  EXPECT_EQ(PlacementOf(data[5]).host_bytes, 0u);
  // What gave way before is asked for as much again.
  const CUdeviceptr again = Alloc(20 * kMiB);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(PlacementOf(data[i]).host_bytes, 8 * kMiB) << i;
  EXPECT_EQ(PlacementOf(data[5]).host_bytes, 0u);
  FreeChecked(data);
  Free(more);
  Free(again);
}

TEST_F(EvenTest, BeyondAnEighthTheOldestGivesWay) {
  const std::vector<CUdeviceptr> data = AllocData();
  const CUdeviceptr more = Alloc(60 * kMiB);
  EXPECT_EQ(PlacementOf(data[0]).host_bytes, 28 * kMiB);
  for (size_t i = 1; i < 5; ++i) EXPECT_EQ(PlacementOf(data[i]).host_bytes, 8 * kMiB) << i;
  EXPECT_EQ(PlacementOf(data[5]).host_bytes, 0u);
  FreeChecked(data);
  Free(more);
}

// Of one range, too: nothing of what gives way is adjacent, or one copy would do for it.
TEST_F(EvenTest, WhatGivesWayLiesApart) {
  const std::vector<CUdeviceptr> data = AllocData();
  const uint64_t copies = GetSim().call_count("cuMemcpyDtoDAsync");
  const CUdeviceptr more = Alloc(20 * kMiB);
  EXPECT_EQ(GetSim().call_count("cuMemcpyDtoDAsync") - copies, 10u);
  FreeChecked(data);
  Free(more);
}

TEST_F(EvenTest, ColdDataGivesWayFirst) {
  const CUdeviceptr read_once = AllocHinted(GPUROOM_HINT_STREAM, kSize);
  const uint64_t before = PlacementOf(read_once).device_bytes;
  std::vector<CUdeviceptr> data = AllocData();
  for (const CUdeviceptr p : data) EXPECT_EQ(PlacementOf(p).host_bytes, 0u);
  EXPECT_LT(PlacementOf(read_once).device_bytes, before);
  FreeChecked(data);
  Free(read_once);
}

// Memory of which size says nothing: 128 MiB of workspaces and 256 of data, the first sixteenth of which is a
// single piece.
TEST_F(EvenTest, OfPiecesTheOldestGivesWayThenOnesFarApart) {
  constexpr uint64_t kPiece = 16 * kMiB;
  constexpr size_t kFirst = 8;
  std::vector<Mapped> pieces;
  for (uint32_t i = 0; i < 24; ++i) {
    pieces.emplace_back(kPiece);
    Fill(pieces.back().va, kPiece, i);
  }
  const auto away = [&] {
    std::vector<size_t> found;
    for (size_t i = 0; i < pieces.size(); ++i) {
      const uint64_t host_bytes = PlacementOf(pieces[i].va).host_bytes;
      EXPECT_TRUE(host_bytes == 0 || host_bytes == kPiece);
      if (host_bytes > 0) found.push_back(i);
    }
    return found;
  };
  std::vector<CUdeviceptr> more = {Alloc(kPiece)};
  EXPECT_EQ(away(), std::vector<size_t>{kFirst});
  more.push_back(Alloc(kPiece));
  more.push_back(Alloc(kPiece));
  const std::vector<size_t> found = away();
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0], kFirst);
  EXPECT_GT(found[2] - found[1], 3u);
  EXPECT_LT(found[2], 22u);  // the last two are young
  for (uint32_t i = 0; i < 24; ++i) EXPECT_EQ(CountBad(pieces[i].va, kPiece, i), 0u) << i;
  for (const CUdeviceptr p : more) Free(p);
  for (const Mapped& piece : pieces) piece.Free();
}

// In 384 MiB of HBM and the reserve, whatever the request of 6 MiB: ctest sets both.
class MoveBackTest : public MoveTest {
 protected:
  static constexpr uint64_t kSize = 64 * kMiB;
  static constexpr uint64_t kSmall = 6 * kMiB;

  // Data that fills HBM, so that it gives way to what `allocate` gives and, once that is freed, has come back
  // as far as HBM keeps no slack of 64 MiB.
  template <typename Allocate, typename Release>
  void Check(Allocate allocate, Release release) {
    std::vector<CUdeviceptr> data;
    for (uint32_t i = 0; i < 6; ++i) {
      data.push_back(Alloc(kSize));
      Fill(data.back(), kSize, i);
    }
    EXPECT_CU(Cu().CtxSynchronize());
    std::vector<CUdeviceptr> small;
    for (int i = 0; i < 40; ++i) small.push_back(allocate());
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(PlacementOf(data[i]).host_bytes, kSize) << i;
    for (const CUdeviceptr p : small) release(p);
    for (const size_t young : {3, 2}) {
      EXPECT_TRUE(AwaitReturn(data[young], kSize, [&] { release(allocate()); })) << young;
    }
    for (uint32_t i = 0; i < 6; ++i) {
      EXPECT_EQ(CountBad(data[i], kSize, i), 0u) << i;
      Free(data[i]);
    }
  }
};

TEST_F(MoveBackTest, WhatGaveWayToSmallMemoryComesBackWhenThatIsFreed) {
  Check([&] { return Alloc(kSmall); }, [&](CUdeviceptr p) { Free(p); });
}

TEST_F(MoveBackTest, WhatGaveWayToStreamOrderedMemoryComesBackWhenThatIsFreed) {
  const CUstream stream = NewStream();
  const auto allocate = [&] {
    CUdeviceptr p = 0;
    EXPECT_CU(Cu().MemAllocAsync(&p, kSmall, stream));
    return p;
  };
  // The driver keeps what was freed until the stream has come to rest.
  Check(allocate, [&](CUdeviceptr p) {
    EXPECT_CU(Cu().MemFreeAsync(p, stream));
    EXPECT_CU(Cu().StreamSynchronize(stream));
  });
  EXPECT_CU(Cu().StreamDestroy(stream));
}

// A part that is brought to HBM by itself was chosen: what else was sent to the host stays there.
TEST_F(EvenTest, APartThatComesToHbmBringsNoOtherPartAlong) {
  constexpr uint64_t kPart = 32 * kMiB;
  const CUdeviceptr p = Alloc(2 * kPart);
  Fill(p, 2 * kPart, 7);
  for (const CUdeviceptr part : {p, p + kPart}) {
    ASSERT_EQ(gpuroom_range_migrate(part, kPart, GPUROOM_TIER_HOST), GPUROOM_OK) << gpuroom_last_error();
  }
  ASSERT_EQ(gpuroom_range_migrate(p + kPart, kPart, GPUROOM_TIER_DEVICE), GPUROOM_OK) << gpuroom_last_error();
  EXPECT_EQ(PlacementOf(p).device_bytes, kPart);
  const CUdeviceptr away = Alloc(kPart);
  ASSERT_EQ(gpuroom_range_migrate(away, 0, GPUROOM_TIER_HOST), GPUROOM_OK) << gpuroom_last_error();
  ASSERT_EQ(gpuroom_set_hint(away, GPUROOM_HINT_NONE), GPUROOM_OK)
      << gpuroom_last_error();  // it may come back
  EXPECT_TRUE(AwaitReturn(away, kPart, [&] { Free(Alloc(kThreshold)); }));
  EXPECT_EQ(PlacementOf(p).host_bytes, kPart);
  EXPECT_EQ(CountBad(p, 2 * kPart, 7), 0u);
  Free(away);
  Free(p);
}

// What the program may export gives way whole.
TEST_F(EvenTest, SharedPiecesGiveWayWhole) {
  std::vector<Mapped> pieces;
  for (int i = 0; i < kCount; ++i) {
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
  for (int i = 0; i < kCount; ++i) {
    EXPECT_EQ(CountBad(pieces[static_cast<size_t>(i)].va, kSize, static_cast<uint32_t>(10 + i)), 0u) << i;
  }
  Free(more);
  for (const Mapped& piece : pieces) piece.Free();
}

}  // namespace
}  // namespace gpuroom::shim_test
