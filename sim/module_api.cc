// Modules and launches. Any image loads; its functions are the built-in kernels.
#include <atomic>
#include <cstring>
#include <set>

#include "entry.h"
#include "kernels.h"
#include "stream.h"

struct CUmod_st {
  CUcontext context;
};

namespace gpuroom::sim {
namespace {

std::set<CUmodule>& Modules() {
  static auto* modules = new std::set<CUmodule>;
  return *modules;
}

CUresult Load(Guard& guard, CUmodule* out, const void* image) {
  if (out == nullptr || image == nullptr) return CUDA_ERROR_INVALID_VALUE;
  DrainContext(guard.lock(), &guard.context());  // loading waits for the device
  *out = new CUmod_st{&guard.context()};
  Modules().insert(*out);
  return CUDA_SUCCESS;
}

// A CUfunction is its kernel's address; a CUkernel too.
const Kernel* AsKernel(CUfunction function) {
  for (size_t i = 0; i < KernelCount(); ++i) {
    if (reinterpret_cast<const void*>(function) == KernelAt(i)) return KernelAt(i);
  }
  return nullptr;
}

CUfunction AsFunction(const Kernel* kernel) {
  return reinterpret_cast<CUfunction>(const_cast<Kernel*>(kernel));
}

bool ExtraArguments(void** extra, uint64_t* arguments, int count) {
  const void* buffer = nullptr;
  size_t size = 0;
  for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
    if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = extra[1];
    if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE) size = *static_cast<size_t*>(extra[1]);
  }
  if (buffer == nullptr || size != static_cast<size_t>(count) * 8) return false;
  std::memcpy(arguments, buffer, size);
  return true;
}

struct Shape {
  unsigned grid[3];
  unsigned block[3];
};

bool Launchable(const Shape& shape) {
  uint64_t threads = 1;
  for (int i = 0; i < 3; ++i) {
    if (shape.grid[i] == 0 || shape.block[i] == 0) return false;
    threads *= shape.block[i];
  }
  return threads <= 1024 && shape.grid[1] <= 65535 && shape.grid[2] <= 65535;
}

CUresult Launch(Guard& guard, CUfunction function, const Shape& shape, CUstream handle, void** parameters,
                void** extra) {
  const Kernel* kernel = AsKernel(function);
  if (kernel == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (!Launchable(shape) || (parameters == nullptr) == (extra == nullptr)) return CUDA_ERROR_INVALID_VALUE;
  CUstream stream = nullptr;
  const CUresult result = ResolveStream(handle, &stream);
  if (result != CUDA_SUCCESS) return result;
  uint64_t arguments[4] = {};
  if (parameters != nullptr) {
    for (int i = 0; i < kernel->parameters; ++i) std::memcpy(&arguments[i], parameters[i], 8);
  } else if (!ExtraArguments(extra, arguments, kernel->parameters)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return Submit(stream, kernel->launch(arguments, guard.context().device));
}

std::atomic<uint64_t> g_early_launches{0};

void CountEarly(const CUlaunchConfig& config) {
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const CUlaunchAttribute& attribute = config.attrs[i];
    const bool early = attribute.id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION &&
                       attribute.value.programmaticStreamSerializationAllowed != 0;
    if (early) g_early_launches.fetch_add(1, std::memory_order_relaxed);
  }
}

int FunctionAttribute(CUfunction_attribute attribute) {
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: return 1024;
    case CU_FUNC_ATTRIBUTE_NUM_REGS: return 32;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION: return 90;
    default: return 0;
  }
}

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;

SIM_API cuModuleLoadData(CUmodule* out, const void* image) {
  SIM_ENTER(cuModuleLoadData, kContext);
  return sim::Load(guard, out, image);
}

SIM_API cuModuleLoadDataEx(CUmodule* out, const void* image, unsigned int, CUjit_option*, void**) {
  SIM_ENTER(cuModuleLoadDataEx, kContext);
  return sim::Load(guard, out, image);
}

SIM_API cuModuleLoadFatBinary(CUmodule* out, const void* image) {
  SIM_ENTER(cuModuleLoadFatBinary, kContext);
  return sim::Load(guard, out, image);
}

SIM_API cuModuleLoad(CUmodule* out, const char* path) {
  SIM_ENTER(cuModuleLoad, kContext);
  return sim::Load(guard, out, path);
}

SIM_API cuModuleUnload(CUmodule module) {
  SIM_ENTER(cuModuleUnload, kContext);
  if (sim::Modules().erase(module) == 0) return CUDA_ERROR_INVALID_HANDLE;
  delete module;
  return CUDA_SUCCESS;
}

SIM_API cuModuleGetFunction(CUfunction* out, CUmodule module, const char* name) {
  SIM_ENTER(cuModuleGetFunction, kContext);
  if (out == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!sim::Modules().contains(module)) return CUDA_ERROR_INVALID_HANDLE;
  const sim::Kernel* kernel = sim::FindKernel(name);
  if (kernel == nullptr) return CUDA_ERROR_NOT_FOUND;
  *out = sim::AsFunction(kernel);
  return CUDA_SUCCESS;
}

SIM_API cuModuleGetGlobal_v2(CUdeviceptr*, size_t*, CUmodule, const char*) {
  SIM_ENTER(cuModuleGetGlobal, kContext);
  return CUDA_ERROR_NOT_FOUND;
}

SIM_API cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                       unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int,
                       CUstream stream, void** parameters, void** extra) {
  SIM_ENTER(cuLaunchKernel, kContext);
  return sim::Launch(guard, function, {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}}, stream,
                     parameters, extra);
}

SIM_API cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra) {
  SIM_ENTER(cuLaunchKernelEx, kContext);
  if (config == nullptr || (config->numAttrs != 0 && config->attrs == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  sim::CountEarly(*config);
  return sim::Launch(guard, function,
                     {{config->gridDimX, config->gridDimY, config->gridDimZ},
                      {config->blockDimX, config->blockDimY, config->blockDimZ}},
                     config->hStream, parameters, extra);
}

extern "C" __attribute__((visibility("default"))) uint64_t gpuroom_sim_early_launches() {
  return sim::g_early_launches.load(std::memory_order_relaxed);
}

SIM_API cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
  SIM_ENTER(cuFuncGetAttribute, kContext);
  if (value == nullptr || attribute >= CU_FUNC_ATTRIBUTE_MAX) return CUDA_ERROR_INVALID_VALUE;
  if (sim::AsKernel(function) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  *value = sim::FunctionAttribute(attribute);
  return CUDA_SUCCESS;
}

SIM_API cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int) {
  SIM_ENTER(cuFuncSetAttribute, kContext);
  if (attribute >= CU_FUNC_ATTRIBUTE_MAX) return CUDA_ERROR_INVALID_VALUE;
  return sim::AsKernel(function) != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

SIM_API cuFuncSetCacheConfig(CUfunction function, CUfunc_cache) {
  SIM_ENTER(cuFuncSetCacheConfig, kContext);
  return sim::AsKernel(function) != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

SIM_API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction function, int block_size,
                                                    size_t) {
  SIM_ENTER(cuOccupancyMaxActiveBlocksPerMultiprocessor, kContext);
  if (blocks == nullptr || block_size <= 0) return CUDA_ERROR_INVALID_VALUE;
  if (sim::AsKernel(function) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  *blocks = block_size > 1024 ? 0 : 2048 / ((block_size + 31) / 32 * 32);
  return CUDA_SUCCESS;
}

// A library is a module that belongs to no context; its kernels are functions.
SIM_API cuLibraryLoadData(CUlibrary* out, const void* image, CUjit_option*, void**, unsigned int,
                          CUlibraryOption*, void**, unsigned int) {
  SIM_ENTER(cuLibraryLoadData, kInit);
  if (out == nullptr || image == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto* module = new CUmod_st{nullptr};
  sim::Modules().insert(module);
  *out = reinterpret_cast<CUlibrary>(module);
  return CUDA_SUCCESS;
}

SIM_API cuLibraryUnload(CUlibrary library) {
  SIM_ENTER(cuLibraryUnload, kInit);
  auto* module = reinterpret_cast<CUmodule>(library);
  if (sim::Modules().erase(module) == 0) return CUDA_ERROR_INVALID_HANDLE;
  delete module;
  return CUDA_SUCCESS;
}

SIM_API cuLibraryGetModule(CUmodule* out, CUlibrary library) {
  SIM_ENTER(cuLibraryGetModule, kContext);
  auto* module = reinterpret_cast<CUmodule>(library);
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!sim::Modules().contains(module)) return CUDA_ERROR_INVALID_HANDLE;
  *out = module;
  return CUDA_SUCCESS;
}

SIM_API cuLibraryGetKernel(CUkernel* out, CUlibrary library, const char* name) {
  SIM_ENTER(cuLibraryGetKernel, kInit);
  if (out == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!sim::Modules().contains(reinterpret_cast<CUmodule>(library))) return CUDA_ERROR_INVALID_HANDLE;
  const sim::Kernel* kernel = sim::FindKernel(name);
  if (kernel == nullptr) return CUDA_ERROR_NOT_FOUND;
  *out = reinterpret_cast<CUkernel>(sim::AsFunction(kernel));
  return CUDA_SUCCESS;
}

SIM_API cuKernelGetFunction(CUfunction* out, CUkernel kernel) {
  SIM_ENTER(cuKernelGetFunction, kContext);
  auto function = reinterpret_cast<CUfunction>(kernel);
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (sim::AsKernel(function) == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  *out = function;
  return CUDA_SUCCESS;
}
