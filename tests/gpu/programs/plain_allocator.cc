// What people write as a pluggable allocator for PyTorch: cudaMalloc or cudaMallocManaged (here the driver's
// calls behind them) for every request, without caching. Managed memory with the usual advice: it prefers
// the GPU, the processor reaches it, and it is prefetched. Errors give null, as theirs do.
#include <cuda.h>
#include <dlfcn.h>
#include <sys/types.h>

namespace {

template <typename Function>
Function Driver(const char* name) {
  static void* const library = dlopen("libcuda.so.1", RTLD_LAZY);
  return reinterpret_cast<Function>(dlsym(library, name));
}

// PyTorch has no context current in a thread that never used the GPU.
bool Enter(int device) {
  static const auto current = Driver<CUresult (*)(CUcontext*)>("cuCtxGetCurrent");
  static const auto retain = Driver<CUresult (*)(CUcontext*, CUdevice)>("cuDevicePrimaryCtxRetain");
  static const auto set = Driver<CUresult (*)(CUcontext)>("cuCtxSetCurrent");
  CUcontext context = nullptr;
  if (current(&context) == CUDA_SUCCESS && context != nullptr) return true;
  return retain(&context, device) == CUDA_SUCCESS && set(context) == CUDA_SUCCESS;
}

void Advise(CUdeviceptr address, size_t bytes, int device, CUstream stream) {
  using AdviseFunction = CUresult (*)(CUdeviceptr, size_t, CUmem_advise, CUmemLocation);
  using PrefetchFunction = CUresult (*)(CUdeviceptr, size_t, CUmemLocation, unsigned, CUstream);
  static const auto advise = Driver<AdviseFunction>("cuMemAdvise_v2");
  static const auto prefetch = Driver<PrefetchFunction>("cuMemPrefetchAsync_v2");
  CUmemLocation gpu{};
  gpu.type = CU_MEM_LOCATION_TYPE_DEVICE;
  gpu.id = device;
  CUmemLocation host{};
  host.type = CU_MEM_LOCATION_TYPE_HOST;
  advise(address, bytes, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, gpu);
  advise(address, bytes, CU_MEM_ADVISE_SET_ACCESSED_BY, host);
  prefetch(address, bytes, gpu, 0, stream);
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

void* plain_malloc(ssize_t bytes, int device, CUstream) {
  static const auto allocate = Driver<CUresult (*)(CUdeviceptr*, size_t)>("cuMemAlloc_v2");
  CUdeviceptr address = 0;
  if (!Enter(device) || allocate(&address, static_cast<size_t>(bytes)) != CUDA_SUCCESS) return nullptr;
  return reinterpret_cast<void*>(address);  // NOLINT
}

void plain_free(void* address, ssize_t, int, CUstream) {
  static const auto release = Driver<CUresult (*)(CUdeviceptr)>("cuMemFree_v2");
  release(reinterpret_cast<CUdeviceptr>(address));
}

void* plain_managed_malloc(ssize_t bytes, int device, CUstream stream) {
  static const auto allocate = Driver<CUresult (*)(CUdeviceptr*, size_t, unsigned)>("cuMemAllocManaged");
  CUdeviceptr address = 0;
  if (!Enter(device) || allocate(&address, static_cast<size_t>(bytes), CU_MEM_ATTACH_GLOBAL) != CUDA_SUCCESS)
    return nullptr;
  Advise(address, static_cast<size_t>(bytes), device, stream);
  return reinterpret_cast<void*>(address);  // NOLINT
}

void plain_managed_free(void* address, ssize_t bytes, int device, CUstream stream) {
  static const auto wait = Driver<CUresult (*)(CUstream)>("cuStreamSynchronize");
  wait(stream);
  plain_free(address, bytes, device, stream);
}

}  // extern "C"
#pragma GCC visibility pop
