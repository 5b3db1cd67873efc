// Chunks that are exported and imported as descriptors.
#include <sys/resource.h>
#include <unistd.h>

#include "sim_test.h"

namespace gpuroom::sim {
namespace {

class SharingTest : public SimTest {
 protected:
  static CUmemGenericAllocationHandle CreateShareable() {
    return Create(CU_MEM_LOCATION_TYPE_DEVICE, 0, kChunk, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  }
  static int Export(CUmemGenericAllocationHandle handle) {
    int fd = -1;
    EXPECT_EQ(cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
              CUDA_SUCCESS);
    return fd;
  }
  static CUmemGenericAllocationHandle Import(int fd) {
    CUmemGenericAllocationHandle handle = 0;
    EXPECT_EQ(cuMemImportFromShareableHandle(&handle, reinterpret_cast<void*>(static_cast<intptr_t>(fd)),
                                             CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
              CUDA_SUCCESS);
    return handle;
  }
  static CUdeviceptr Show(CUmemGenericAllocationHandle handle) {
    const CUdeviceptr va = Reserve(kChunk);
    EXPECT_EQ(cuMemMap(va, kChunk, 0, handle, 0), CUDA_SUCCESS);
    EXPECT_EQ(Allow(va, kChunk), CUDA_SUCCESS);
    return va;
  }
  static void Write(CUmemGenericAllocationHandle handle, unsigned value) {
    const CUdeviceptr va = Show(handle);
    EXPECT_EQ(cuMemsetD32(va, value, kChunk / 4), CUDA_SUCCESS);
    EXPECT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
    Drop(va, kChunk);
  }
  // The chunk's last word.
  static unsigned Read(CUmemGenericAllocationHandle handle) {
    const CUdeviceptr va = Show(handle);
    unsigned value = 0;
    EXPECT_EQ(cuMemcpyDtoH(&value, va + kChunk - 4, 4), CUDA_SUCCESS);
    Drop(va, kChunk);
    return value;
  }
};

// Lets the process open `more` descriptors beyond those it has.
void AllowDescriptors(unsigned more) {
  const int next = dup(0);
  ASSERT_GE(next, 0);
  close(next);
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = static_cast<rlim_t>(next) + more;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

TEST_F(SharingTest, ManyShareableChunksNeedFewDescriptors) {
  AllowDescriptors(8);
  std::vector<CUmemGenericAllocationHandle> handles;
  for (unsigned i = 0; i < 30; ++i) handles.push_back(CreateShareable());
  const size_t created = handles.size();
  for (size_t i = 0; i < created; ++i) {
    const int fd = Export(handles[i]);
    handles.push_back(Import(fd));
    close(fd);
  }
  for (unsigned i = 0; i < created; ++i) Write(handles[i], i + 1);
  for (unsigned i = 0; i < created; ++i) EXPECT_EQ(Read(handles[created + i]), i + 1);
  for (const auto handle : handles) EXPECT_EQ(cuMemRelease(handle), CUDA_SUCCESS);
}

TEST_F(SharingTest, WhereFilesMustBeSmallEachChunkHasItsOwn) {
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  limit.rlim_cur = kChunk;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const auto first = CreateShareable();
  const auto second = CreateShareable();
  Write(first, 1);
  Write(second, 2);
  EXPECT_EQ(Read(first), 1U);
  for (const auto handle : {first, second}) EXPECT_EQ(cuMemRelease(handle), CUDA_SUCCESS);
}

TEST_F(SharingTest, ADescriptorKeepsTheBytesOfAChunkThatIsReleased) {
  const auto first = CreateShareable();
  Write(first, 7);
  const int fd = Export(first);
  ASSERT_EQ(cuMemRelease(first), CUDA_SUCCESS);
  EXPECT_EQ(gpuroom_sim_used(0), 0U);
  const auto second = CreateShareable();  // must not get the bytes that the descriptor stands for
  Write(second, 8);
  const auto imported = Import(fd);
  close(fd);
  EXPECT_EQ(Read(imported), 7U);
  ASSERT_EQ(cuMemRelease(second), CUDA_SUCCESS);
  const auto third = CreateShareable();
  Write(third, 9);
  EXPECT_EQ(Read(imported), 7U);
  EXPECT_EQ(cuMemRelease(imported), CUDA_SUCCESS);
  EXPECT_EQ(cuMemRelease(third), CUDA_SUCCESS);
}

TEST_F(SharingTest, ImportedTwiceItLivesUntilBothAreReleased) {
  const auto first = CreateShareable();
  Write(first, 7);
  const int fd = Export(first);
  const auto one = Import(fd);
  const auto other = Import(fd);
  close(fd);
  ASSERT_EQ(cuMemRelease(first), CUDA_SUCCESS);
  ASSERT_EQ(cuMemRelease(one), CUDA_SUCCESS);
  const auto second = CreateShareable();
  Write(second, 8);
  EXPECT_EQ(Read(other), 7U);
  EXPECT_EQ(cuMemRelease(other), CUDA_SUCCESS);
  const auto third = CreateShareable();  // where the first was
  EXPECT_EQ(Read(third), 0U);
  EXPECT_EQ(cuMemRelease(second), CUDA_SUCCESS);
  EXPECT_EQ(cuMemRelease(third), CUDA_SUCCESS);
}

TEST_F(SharingTest, AnImportExportsAsTheSameBytes) {
  const auto first = CreateShareable();
  const auto second = CreateShareable();
  std::vector<CUmemGenericAllocationHandle> imports;
  for (auto source = second; imports.size() < 2; source = imports.back()) {
    const int fd = Export(source);
    imports.push_back(Import(fd));
    close(fd);
  }
  Write(second, 5);
  EXPECT_EQ(Read(imports.back()), 5U);
  EXPECT_EQ(Read(first), 0U);
  for (const auto handle : {first, second, imports[0], imports[1]})
    EXPECT_EQ(cuMemRelease(handle), CUDA_SUCCESS);
}

}  // namespace
}  // namespace gpuroom::sim
