// What the program is told of memory.
#include <dlfcn.h>

#include "shim_test.h"

namespace gpuroom::shim_test {
namespace {

using QueryTest = ShimTest;

TEST_F(QueryTest, TotalIsBothTiers) {
  size_t total = 0;
  EXPECT_CU(Cu().DeviceTotalMem(&total, 0));
  EXPECT_EQ(total, kHbm + kHost);
  EXPECT_EQ(MemInfo().total, kHbm + kHost);
  EXPECT_EQ(MemInfo().free, kHbm + kHost);
}

struct NvmlMemory {
  unsigned long long total, free, used;
};
struct NvmlMemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};

// NVML as programs use it: dlopen, dlsym.
class NvmlTest : public ShimTest {
 protected:
  void SetUp() override {
    ShimTest::SetUp();
    void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    ASSERT_NE(library, nullptr) << dlerror();
    const auto init = reinterpret_cast<int (*)()>(dlsym(library, "nvmlInit_v2"));
    const auto get =
        reinterpret_cast<int (*)(unsigned, void**)>(dlsym(library, "nvmlDeviceGetHandleByIndex_v2"));
    info_ = reinterpret_cast<int (*)(void*, NvmlMemory*)>(dlsym(library, "nvmlDeviceGetMemoryInfo"));
    info_v2_ = reinterpret_cast<int (*)(void*, NvmlMemoryV2*)>(dlsym(library, "nvmlDeviceGetMemoryInfo_v2"));
    ASSERT_TRUE(init != nullptr && get != nullptr && info_ != nullptr && info_v2_ != nullptr);
    ASSERT_EQ(init(), 0);
    ASSERT_EQ(get(0, &device_), 0);
  }
  void ExpectAgreement() {
    const Info cuda = MemInfo();
    NvmlMemory one{};
    ASSERT_EQ(info_(device_, &one), 0);
    EXPECT_EQ(one.total, cuda.total);
    EXPECT_EQ(one.free, cuda.free);
    EXPECT_EQ(one.used, cuda.total - cuda.free);
    NvmlMemoryV2 two{};
    two.version = sizeof two | 2u << 24;
    ASSERT_EQ(info_v2_(device_, &two), 0);
    EXPECT_EQ(two.total, cuda.total);
    EXPECT_EQ(two.free, cuda.free);
    EXPECT_EQ(two.used + two.reserved, cuda.total - cuda.free);
  }

  void* device_ = nullptr;
  int (*info_)(void*, NvmlMemory*) = nullptr;
  int (*info_v2_)(void*, NvmlMemoryV2*) = nullptr;
};

TEST_F(NvmlTest, AgreesWithCudaBeforeDuringAndAfter) {
  ExpectAgreement();
  const CUdeviceptr range = Alloc(kForRanges);
  ExpectAgreement();
  const CUdeviceptr spilled = Alloc(32 * kMiB);
  EXPECT_EQ(PlacementOf(spilled).host_bytes, 32 * kMiB);
  const CUdeviceptr small = Alloc(kMiB);
  EXPECT_EQ(MemInfo().free, before_.free - kForRanges - 33 * kMiB);
  ExpectAgreement();
  Free(small);
  Free(spilled);
  Free(range);
  ExpectAgreement();
}

TEST_F(NvmlTest, AgreesWithCudaForAPartOfAGpu) {
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
  const auto name = reinterpret_cast<int (*)(void*, char*, unsigned)>(dlsym(library, "nvmlDeviceGetUUID"));
  const auto find =
      reinterpret_cast<int (*)(const char*, void**)>(dlsym(library, "nvmlDeviceGetHandleByUUID"));
  char uuid[96] = {};
  ASSERT_EQ(name(device_, uuid, sizeof uuid), 0);
  ASSERT_EQ(find(("MIG-" + std::string(uuid).substr(4)).c_str(), &device_), 0);
  ExpectAgreement();
  const CUdeviceptr p = Alloc(kSpilled);
  ExpectAgreement();
  Free(p);
}

class PointerTest : public ShimTest, public testing::WithParamInterface<uint64_t> {};

template <typename T>
T Attribute(CUdeviceptr p, CUpointer_attribute attribute) {
  T value{};
  EXPECT_CU(Cu().PointerGetAttribute(&value, attribute, p)) << attribute;
  return value;
}

TEST_P(PointerTest, LooksLikeDeviceMemoryEverywhereInside) {
  const uint64_t bytes = GetParam() - 5000;
  const CUdeviceptr p = Alloc(bytes);
  const CUcontext context = UseDevice(0);
  const auto id = Attribute<unsigned long long>(p, CU_POINTER_ATTRIBUTE_BUFFER_ID);
  for (const uint64_t offset : {uint64_t{0}, uint64_t{1}, bytes / 2 + 3, bytes - 1}) {
    const CUdeviceptr at = p + offset;
    EXPECT_EQ(Attribute<unsigned>(at, CU_POINTER_ATTRIBUTE_MEMORY_TYPE), unsigned{CU_MEMORYTYPE_DEVICE});
    EXPECT_EQ(Attribute<CUcontext>(at, CU_POINTER_ATTRIBUTE_CONTEXT), context);
    EXPECT_EQ(Attribute<CUdeviceptr>(at, CU_POINTER_ATTRIBUTE_DEVICE_POINTER), at);
    EXPECT_EQ(Attribute<int>(at, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL), 0);
    EXPECT_EQ(Attribute<unsigned>(at, CU_POINTER_ATTRIBUTE_IS_MANAGED), 0u);
    EXPECT_EQ(Attribute<CUdeviceptr>(at, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR), p);
    EXPECT_EQ(Attribute<size_t>(at, CU_POINTER_ATTRIBUTE_RANGE_SIZE), bytes);
    EXPECT_EQ(Attribute<unsigned>(at, CU_POINTER_ATTRIBUTE_MAPPED), 1u);
    EXPECT_EQ(Attribute<unsigned long long>(at, CU_POINTER_ATTRIBUTE_BUFFER_ID), id);
    void* host = nullptr;
    EXPECT_CU_IS(Cu().PointerGetAttribute(&host, CU_POINTER_ATTRIBUTE_HOST_POINTER, at),
                 CUDA_ERROR_INVALID_VALUE);
    CUdeviceptr base = 0;
    size_t size = 0;
    EXPECT_CU(Cu().MemGetAddressRange(&base, &size, at));
    EXPECT_EQ(base, p);
    EXPECT_EQ(size, bytes);
    EXPECT_CU(Cu().MemGetAddressRange(nullptr, nullptr, at));
  }
  Free(p);
  unsigned type = 0;
  EXPECT_CU_IS(Cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p),
               CUDA_ERROR_INVALID_VALUE);
}

TEST_P(PointerTest, AnswersManyAttributesAtOnce) {
  const CUdeviceptr p = Alloc(GetParam());
  const CUdeviceptr at = p + GetParam() - 4096;
  CUpointer_attribute wanted[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_HOST_POINTER,
                                  CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
                                  CU_POINTER_ATTRIBUTE_RANGE_SIZE};
  unsigned type = 99;
  void* host = &type;
  int ordinal = 99;
  CUdeviceptr start = 99;
  size_t size = 99;
  void* data[] = {&type, &host, &ordinal, &start, &size};
  EXPECT_CU(Cu().PointerGetAttributes(5, wanted, data, at));
  EXPECT_EQ(type, unsigned{CU_MEMORYTYPE_DEVICE});
  EXPECT_EQ(host, nullptr);
  EXPECT_EQ(ordinal, 0);
  EXPECT_EQ(start, p);
  EXPECT_EQ(size, GetParam());
  Free(p);
}

INSTANTIATE_TEST_SUITE_P(Placement, PointerTest, testing::Values(32 * kMiB, kSpilled, kMixed),
                         [](const auto& test) {
                           return test.param == kMixed     ? "Mixed"
                                  : test.param == kSpilled ? "Spilled"
                                                           : "Device";
                         });

TEST_F(QueryTest, LegacyIpcWorksForSmallAllocations) {
  const CUdeviceptr p = Alloc(4 * kMiB);
  CUipcMemHandle handle;
  EXPECT_CU(Cu().IpcGetMemHandle(&handle, p));
  Free(p);
}

TEST_F(QueryTest, HostAndUnknownPointersAreTheDriversBusiness) {
  int local = 0;
  unsigned type = 0;
  EXPECT_CU_IS(Cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                        reinterpret_cast<CUdeviceptr>(&local)),
               CUDA_ERROR_INVALID_VALUE);
  CUdeviceptr base = 0;
  size_t size = 0;
  EXPECT_CU_IS(Cu().MemGetAddressRange(&base, &size, reinterpret_cast<CUdeviceptr>(&local)),
               CUDA_ERROR_NOT_FOUND);
}

}  // namespace
}  // namespace gpuroom::shim_test
