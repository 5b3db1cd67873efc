#include "library.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

namespace gpuroom::shim_test {
namespace {

void* Open() {
  void* library = dlopen(GPUROOM_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (library != nullptr) return library;
  std::fprintf(stderr, "%s\n", dlerror());
  std::abort();
}

template <typename Function>
void Find(void* library, const char* name, Function* out) {
  *out = reinterpret_cast<Function>(dlsym(library, name));
  if (*out != nullptr) return;
  std::fprintf(stderr, "the library has no %s\n", name);
  std::abort();
}

}  // namespace

const LibraryFunctions& Library() {
  static const LibraryFunctions functions = [] {
    LibraryFunctions found;
    void* library = Open();
#define GPUROOM_FUNCTION(name) Find(library, "gpuroom_" #name, &found.name);
#include "library_functions.def"
#define GPUROOM_FOREIGN_FUNCTION(name) Find(library, #name, &found.name);
#include "foreign_functions.def"
    return found;
  }();
  return functions;
}

bool InFront() { return dlsym(RTLD_DEFAULT, "gpuroom_describe") != nullptr; }

void CapiTest::SetUp() {
  GetSim().fail("");
  UseDevice(0);
  GetSim().clear_strict_errors();
  Spin(1);
  ASSERT_CU(Cu().CtxSynchronize());
}

void CapiTest::TearDown() {
  GetSim().fail("");
  UseDevice(0);
  EXPECT_CU(Cu().CtxSynchronize());
  for (int device = 0; device < 2; ++device) {
    EXPECT_EQ(Library().trim(device), GPUROOM_OK) << Library().last_error();
    const gpuroom_stats stats = Stats(device);
    EXPECT_EQ(stats.pool_allocated, 0u);
    EXPECT_EQ(stats.pool_reserved, 0u);
    EXPECT_EQ(stats.device_used, 0u);
    EXPECT_EQ(stats.host_used, 0u);
    EXPECT_EQ(stats.managed_used, 0u);
  }
  EXPECT_EQ(Leaks(), "");
  EXPECT_EQ(StrictErrors(), "");
}

CUdeviceptr CapiTest::Alloc(uint64_t bytes, CUstream stream, int device) {
  void* p = Library().torch_malloc(static_cast<ssize_t>(bytes), device, stream);
  EXPECT_NE(p, nullptr);
  return reinterpret_cast<CUdeviceptr>(p);
}

void CapiTest::Free(CUdeviceptr p, CUstream stream, int device) {
  Library().torch_free(reinterpret_cast<void*>(p), 0, device, stream);  // NOLINT
}

CUdeviceptr CapiTest::Segment(uint64_t bytes) {
  return reinterpret_cast<CUdeviceptr>(Library().segment_malloc(static_cast<ssize_t>(bytes), 0, nullptr));
}

void CapiTest::FreeSegment(CUdeviceptr p) {
  Library().segment_free(reinterpret_cast<void*>(p), 0, 0, nullptr);  // NOLINT
}

gpuroom_stats CapiTest::Stats(int device) {
  gpuroom_stats stats{};
  EXPECT_EQ(Library().get_stats(device, &stats, sizeof stats), GPUROOM_OK) << Library().last_error();
  return stats;
}

gpuroom_placement CapiTest::Describe(CUdeviceptr p) {
  gpuroom_placement placement{};
  EXPECT_EQ(Library().describe(p, &placement, sizeof placement), 0);
  return placement;
}

}  // namespace gpuroom::shim_test
