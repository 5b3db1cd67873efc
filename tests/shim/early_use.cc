// A library whose constructor uses CUDA. The program links it, so it is initialised before
// libgpuroom.so is: what stands first among the libraries comes last.
#include "early_use.h"

#include <cuda.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace {

std::string* g_folder = nullptr;  // initialised before any constructor runs
gpuroom::shim_test::EarlyUse g_use;

CUresult AllocateOnce() {
  CUcontext context = nullptr;
  CUdeviceptr p = 0;
  CUresult result = cuInit(0);
  if (result == CUDA_SUCCESS) result = cuDevicePrimaryCtxRetain(&context, 0);
  if (result == CUDA_SUCCESS) result = cuCtxSetCurrent(context);
  if (result == CUDA_SUCCESS) result = cuMemAlloc(&p, 32 << 20);
  return result == CUDA_SUCCESS ? cuMemFree(p) : result;
}

__attribute__((constructor)) void Use() {
  char folder[] = "/tmp/gpuroom-early-XXXXXX";
  if (mkdtemp(folder) == nullptr) return;
  g_folder = new std::string(folder);
  setenv("GPUROOM_CONTROL", "1", 1);
  setenv("GPUROOM_CONTROL_DIR", folder, 1);
  g_use.control_directory = g_folder->c_str();
  g_use.result = AllocateOnce();
  cuGetProcAddress("cuLaunchKernel", &g_use.launch, CUDA_VERSION, 0, nullptr);
  cuGetProcAddress("cuMemAlloc", &g_use.allocate, CUDA_VERSION, 0, nullptr);
}

// After the handlers of exit(), which close the socket there.
__attribute__((destructor)) void Remove() {
  if (g_folder != nullptr) rmdir(g_folder->c_str());
}

}  // namespace

namespace gpuroom::shim_test {

const EarlyUse& EarlyUseOfCuda() { return g_use; }

}  // namespace gpuroom::shim_test
