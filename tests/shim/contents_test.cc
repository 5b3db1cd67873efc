// What a spilled or mixed range holds is what was put there: by kernels and by every kind of
// copy and memset, over the borders of its chunks, too.
#include <algorithm>

#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

class ContentsTest : public ShimTest, public testing::WithParamInterface<uint64_t> {
 protected:
  void SetUp() override {
    ShimTest::SetUp();
    p_ = Alloc(GetParam());
    ASSERT_GT(PlacementOf(p_).host_bytes, 0u);
    // Chunk borders: of HBM and host in the mixed range, of two host chunks in both.
    const uint64_t device = PlacementOf(p_).device_bytes;
    if (device > 0) borders_.push_back(device);
    if (device + 64 * kMiB < GetParam()) borders_.push_back(device + 64 * kMiB);
    ASSERT_FALSE(borders_.empty());
  }
  void TearDown() override {
    Free(p_);
    ShimTest::TearDown();
  }

  // A span of `kSpan` bytes with a border in its middle, not aligned to it.
  static constexpr uint64_t kSpan = 64 * kKiB;
  CUdeviceptr Around(uint64_t border) const { return p_ + border - kSpan / 2 - 13; }
  std::vector<unsigned char> Read(CUdeviceptr from) const {
    std::vector<unsigned char> bytes(kSpan);
    EXPECT_CU(Cu().MemcpyDtoH(bytes.data(), from, kSpan));
    return bytes;
  }
  static std::vector<unsigned char> Pattern(unsigned seed) {
    std::vector<unsigned char> bytes(kSpan);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * 7 + i / 256 + seed);
    return bytes;
  }

  CUdeviceptr p_ = 0;
  std::vector<uint64_t> borders_;
};

TEST_P(ContentsTest, KernelsFillAndVerifyAllOfIt) {
  Fill(p_, GetParam(), 77);
  EXPECT_EQ(CountBad(p_, GetParam(), 77), 0u);
  EXPECT_EQ(CountBad(p_, 8, 78), 1u);  // verify can tell
  for (const uint64_t border : borders_) {
    uint64_t words[2] = {};
    EXPECT_CU(Cu().MemcpyDtoH(words, p_ + border - 8, 16));
    EXPECT_EQ(words[0], FilledWord(77, border / 8 - 1));
    EXPECT_EQ(words[1], FilledWord(77, border / 8));
  }
}

TEST_P(ContentsTest, CopiesCrossChunkBorders) {
  const CUstream stream = NewStream();
  const CUdeviceptr small = Alloc(kSpan);
  unsigned seed = 0;
  for (const uint64_t border : borders_) {
    const CUdeviceptr at = Around(border);
    auto pattern = Pattern(++seed);
    EXPECT_CU(Cu().MemcpyHtoD(at, pattern.data(), kSpan));
    EXPECT_EQ(Read(at), pattern);
    EXPECT_CU(Cu().MemcpyDtoD(small, at, kSpan));
    EXPECT_EQ(Read(small), pattern);

    pattern = Pattern(++seed);
    EXPECT_CU(Cu().MemcpyHtoDAsync(small, pattern.data(), kSpan, stream));
    EXPECT_CU(Cu().MemcpyDtoDAsync(at, small, kSpan, stream));
    std::vector<unsigned char> back(kSpan);
    EXPECT_CU(Cu().MemcpyDtoHAsync(back.data(), at, kSpan, stream));
    EXPECT_CU(Cu().StreamSynchronize(stream));
    EXPECT_EQ(back, pattern);

    pattern = Pattern(++seed);
    EXPECT_CU(Cu().Memcpy(at, reinterpret_cast<CUdeviceptr>(pattern.data()), kSpan));
    std::fill(back.begin(), back.end(), 0);
    EXPECT_CU(Cu().MemcpyAsync(reinterpret_cast<CUdeviceptr>(back.data()), at, kSpan, stream));
    EXPECT_CU(Cu().StreamSynchronize(stream));
    EXPECT_EQ(back, pattern);
  }
  Free(small);
  EXPECT_CU(Cu().StreamDestroy(stream));
}

TEST_P(ContentsTest, CopiesWithinTheRangeCrossItsTiers) {
  const uint64_t last = GetParam() - kSpan;
  const auto pattern = Pattern(5);
  EXPECT_CU(Cu().MemcpyHtoD(p_, pattern.data(), kSpan));
  EXPECT_CU(Cu().MemcpyDtoD(p_ + last, p_, kSpan));
  EXPECT_EQ(Read(p_ + last), pattern);
  EXPECT_CU(Cu().MemcpyDtoD(Around(borders_[0]), p_ + last, kSpan));
  EXPECT_EQ(Read(Around(borders_[0])), pattern);
}

TEST_P(ContentsTest, RectanglesCrossChunkBorders) {
  constexpr size_t kRow = 1024;
  for (const uint64_t border : borders_) {
    auto pattern = Pattern(3);
    CUDA_MEMCPY2D copy{};
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = pattern.data();
    copy.srcPitch = kRow;
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.dstDevice = Around(border);
    copy.dstPitch = kRow;
    copy.WidthInBytes = kRow;
    copy.Height = kSpan / kRow;
    EXPECT_CU(Cu().Memcpy2D(&copy));
    EXPECT_EQ(Read(Around(border)), pattern);

    std::vector<unsigned char> back(kSpan);
    CUDA_MEMCPY3D box{};
    box.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    box.srcDevice = Around(border);
    box.srcPitch = kRow;
    box.srcHeight = 8;
    box.dstMemoryType = CU_MEMORYTYPE_HOST;
    box.dstHost = back.data();
    box.dstPitch = kRow;
    box.dstHeight = 8;
    box.WidthInBytes = kRow;
    box.Height = 8;
    box.Depth = kSpan / kRow / 8;
    EXPECT_CU(Cu().Memcpy3D(&box));
    EXPECT_EQ(back, pattern);
  }
}

TEST_P(ContentsTest, MemsetsCrossChunkBorders) {
  const CUstream stream = NewStream();
  for (const uint64_t border : borders_) {
    const CUdeviceptr at = p_ + border - kSpan / 2;
    EXPECT_CU(Cu().MemsetD8(at - 5, 0x11, kSpan));
    EXPECT_EQ(Read(at - 5), std::vector<unsigned char>(kSpan, 0x11));
    EXPECT_CU(Cu().MemsetD16(at, 0x2222, kSpan / 2));
    EXPECT_EQ(Read(at), std::vector<unsigned char>(kSpan, 0x22));
    EXPECT_CU(Cu().MemsetD32(at, 0x33333333, kSpan / 4));
    EXPECT_EQ(Read(at), std::vector<unsigned char>(kSpan, 0x33));
    EXPECT_CU(Cu().MemsetD2D8(at, 1024, 0x44, 1024, kSpan / 1024));
    EXPECT_EQ(Read(at), std::vector<unsigned char>(kSpan, 0x44));
    EXPECT_CU(Cu().MemsetD8Async(at, 0x55, kSpan, stream));
    EXPECT_CU(Cu().StreamSynchronize(stream));
    EXPECT_EQ(Read(at), std::vector<unsigned char>(kSpan, 0x55));
    EXPECT_CU(Cu().MemsetD32Async(at, 0x66666666, kSpan / 4, stream));
    EXPECT_CU(Cu().StreamSynchronize(stream));
    EXPECT_EQ(Read(at), std::vector<unsigned char>(kSpan, 0x66));
  }
  EXPECT_CU(Cu().StreamDestroy(stream));
}

INSTANTIATE_TEST_SUITE_P(Placement, ContentsTest, testing::Values(80 * kMiB, kMixed),
                         [](const auto& test) { return test.param == kMixed ? "Mixed" : "Spilled"; });

}  // namespace
}  // namespace gpuroom::shim_test
