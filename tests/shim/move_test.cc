// Memory that moves between tiers: when something else needs its place, and when the program asks.
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
};

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

}  // namespace
}  // namespace headroom::shim_test
