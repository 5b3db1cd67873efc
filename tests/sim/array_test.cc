// Arrays: what they are made of, and copies to, from and between them.
#include <numeric>

#include "sim_test.h"

namespace gpuroom::sim {
namespace {

constexpr size_t kWidth = 8;
constexpr size_t kHeight = 4;
constexpr size_t kDepth = 3;

CUDA_ARRAY3D_DESCRIPTOR Describe(size_t width, size_t height, size_t depth, unsigned flags = 0) {
  CUDA_ARRAY3D_DESCRIPTOR description = {};
  description.Width = width;
  description.Height = height;
  description.Depth = depth;
  description.Format = CU_AD_FORMAT_FLOAT;
  description.NumChannels = 1;
  description.Flags = flags;
  return description;
}

class ArrayTest : public SimTest {
 protected:
  static CUarray Make(const CUDA_ARRAY3D_DESCRIPTOR& description) {
    CUarray array = nullptr;
    EXPECT_EQ(cuArray3DCreate(&array, &description), CUDA_SUCCESS);
    return array;
  }
  static CUresult TryToMake(const CUDA_ARRAY3D_DESCRIPTOR& description) {
    CUarray array = nullptr;
    const CUresult result = cuArray3DCreate(&array, &description);
    if (result == CUDA_SUCCESS) {
      EXPECT_EQ(cuArrayDestroy(array), CUDA_SUCCESS);
    }
    return result;
  }
  static std::vector<float> Numbers(size_t count) {
    std::vector<float> numbers(count);
    std::iota(numbers.begin(), numbers.end(), 1.0F);
    return numbers;
  }
};

TEST_F(ArrayTest, DescribesItselfAndTakesMemory) {
  const CUarray array = Make(Describe(kWidth, kHeight, kDepth));
  EXPECT_GT(gpuroom_sim_used(0), 0U);
  CUDA_ARRAY3D_DESCRIPTOR whole = {};
  ASSERT_EQ(cuArray3DGetDescriptor(&whole, array), CUDA_SUCCESS);
  EXPECT_EQ(whole.Width, kWidth);
  EXPECT_EQ(whole.Depth, kDepth);
  CUDA_ARRAY_DESCRIPTOR flat = {};
  ASSERT_EQ(cuArrayGetDescriptor(&flat, array), CUDA_SUCCESS);
  EXPECT_EQ(flat.Height, kHeight);
  EXPECT_EQ(flat.Format, CU_AD_FORMAT_FLOAT);
  EXPECT_EQ(cuArrayDestroy(array), CUDA_SUCCESS);
  EXPECT_EQ(gpuroom_sim_used(0), 0U);
}

TEST_F(ArrayTest, OneThatIsGoneIsRefused) {
  const CUarray array = Make(Describe(kWidth, 0, 0));
  ASSERT_EQ(cuArrayDestroy(array), CUDA_SUCCESS);
  CUDA_ARRAY3D_DESCRIPTOR whole = {};
  EXPECT_EQ(cuArray3DGetDescriptor(&whole, array), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(ArrayTest, ImpossibleOnesAreRefused) {
  EXPECT_EQ(TryToMake(Describe(0, 0, 0)), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(TryToMake(Describe(8, 0, 8)), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(TryToMake(Describe(8, 0, 8, CUDA_ARRAY3D_LAYERED)), CUDA_SUCCESS);
  EXPECT_EQ(TryToMake(Describe(8, 8, 0, CUDA_ARRAY3D_LAYERED)), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(TryToMake(Describe(8, 8, 6, CUDA_ARRAY3D_CUBEMAP)), CUDA_SUCCESS);
  EXPECT_EQ(TryToMake(Describe(8, 4, 6, CUDA_ARRAY3D_CUBEMAP)), CUDA_ERROR_INVALID_VALUE);
  CUDA_ARRAY3D_DESCRIPTOR three_channels = Describe(8, 8, 0);
  three_channels.NumChannels = 3;
  EXPECT_EQ(TryToMake(three_channels), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(TryToMake(Describe(16 * kMega, 2, 0)), CUDA_ERROR_OUT_OF_MEMORY);
}

TEST_F(ArrayTest, RowsAreCopiedToAndFroAndBetween) {
  const std::vector<float> out = Numbers(kWidth);
  std::vector<float> in(kWidth);
  const size_t bytes = kWidth * sizeof(float);
  const CUarray one = Make(Describe(kWidth, 0, 0));
  const CUarray other = Make(Describe(kWidth, 0, 0));
  CUdeviceptr plain = 0;
  ASSERT_EQ(cuMemAlloc(&plain, bytes), CUDA_SUCCESS);
  ASSERT_EQ(cuMemcpyHtoA(one, 0, out.data(), bytes), CUDA_SUCCESS);
  ASSERT_EQ(cuMemcpyAtoA(other, 4, one, 0, bytes - 4), CUDA_SUCCESS);
  ASSERT_EQ(cuMemcpyAtoD(plain, one, 0, bytes), CUDA_SUCCESS);
  ASSERT_EQ(cuMemcpyDtoA(other, 0, plain + 4, 4), CUDA_SUCCESS);
  ASSERT_EQ(cuMemcpyAtoH(in.data(), other, 0, bytes), CUDA_SUCCESS);
  EXPECT_EQ(in, (std::vector<float>{2, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(cuMemcpyHtoA(one, 4, out.data(), bytes), CUDA_ERROR_INVALID_VALUE);  // beyond its end
  EXPECT_EQ(cuMemFree(plain), CUDA_SUCCESS);
  EXPECT_EQ(cuArrayDestroy(one), CUDA_SUCCESS);
  EXPECT_EQ(cuArrayDestroy(other), CUDA_SUCCESS);
}

TEST_F(ArrayTest, BoxesAreCopiedByPlace) {
  const std::vector<float> out = Numbers(kWidth * kHeight * kDepth);
  std::vector<float> in(out.size());
  const CUarray array = Make(Describe(kWidth, kHeight, kDepth));
  CUDA_MEMCPY3D copy = {};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = out.data();
  copy.srcPitch = kWidth * sizeof(float);
  copy.srcHeight = kHeight;
  copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
  copy.dstArray = array;
  copy.WidthInBytes = kWidth * sizeof(float);
  copy.Height = kHeight;
  copy.Depth = kDepth;
  ASSERT_EQ(cuMemcpy3D(&copy), CUDA_SUCCESS);
  copy.dstZ = 1;
  EXPECT_EQ(cuMemcpy3D(&copy), CUDA_ERROR_INVALID_VALUE);  // beyond its end
  CUDA_MEMCPY3D back = {};
  back.srcMemoryType = CU_MEMORYTYPE_ARRAY;
  back.srcArray = array;
  back.srcXInBytes = 2 * sizeof(float);
  back.srcY = 1;
  back.srcZ = 2;
  back.dstMemoryType = CU_MEMORYTYPE_HOST;
  back.dstHost = in.data();
  back.dstPitch = 2 * sizeof(float);
  back.WidthInBytes = 2 * sizeof(float);
  back.Height = 2;
  back.Depth = 1;
  CUstream stream = nullptr;
  ASSERT_EQ(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  ASSERT_EQ(cuMemcpy3DAsync(&back, stream), CUDA_SUCCESS);
  ASSERT_EQ(cuStreamSynchronize(stream), CUDA_SUCCESS);
  const auto at = [](size_t x, size_t y, size_t z) {
    return 1.0F + static_cast<float>(x + kWidth * (y + kHeight * z));
  };
  EXPECT_EQ(in[0], at(2, 1, 2));
  EXPECT_EQ(in[1], at(3, 1, 2));
  EXPECT_EQ(in[2], at(2, 2, 2));
  EXPECT_EQ(in[3], at(3, 2, 2));
  EXPECT_EQ(cuStreamDestroy(stream), CUDA_SUCCESS);
  EXPECT_EQ(cuArrayDestroy(array), CUDA_SUCCESS);
}

}  // namespace
}  // namespace gpuroom::sim
