#include "program.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "gpuroom/gpuroom.h"
#include "kernels.h"

namespace gpuroom::shim_test {
namespace {

// A ledger of this process's own, before the shim looks for it: tests that run at
// the same time must not meet. Children inherit it.
struct FreshLedger {
  FreshLedger() {
    const char* folder = std::getenv("TMPDIR");
    path =
        std::string(folder != nullptr ? folder : "/tmp") + "/gpuroom-shim-test-" + std::to_string(getpid());
    mine = setenv("GPUROOM_LEDGER", path.c_str(), 0) == 0 && path == std::getenv("GPUROOM_LEDGER");
    owner = getpid();
  }
  ~FreshLedger() {
    if (mine && owner == getpid()) unlink(path.c_str());
  }
  std::string path;
  pid_t owner = 0;
  bool mine = false;
};
const FreshLedger g_fresh_ledger;

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "the test program cannot go on: %s\n", what);
  std::abort();
}

void Must(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  std::fprintf(stderr, "%s: %s\n", what, NameOf(result).c_str());
  Die(what);
}

template <typename Function>
void Load(Function& function, const char* name) {
  function = reinterpret_cast<Function>(dlsym(LibCuda(), name));
  if (function == nullptr) Die(name);
}

// A function belongs to the context that its module was loaded in.
CUfunction Kernel(const char* name) {
  static std::mutex mutex;
  static std::map<std::pair<CUcontext, std::string>, CUfunction> known;
  static const auto get_current =
      reinterpret_cast<CUresult (*)(CUcontext*)>(dlsym(LibCuda(), "cuCtxGetCurrent"));
  const std::lock_guard lock(mutex);
  CUcontext context = nullptr;
  Must(get_current(&context), "cuCtxGetCurrent");
  CUfunction& function = known[{context, name}];
  if (function == nullptr) {
    CUmodule module = nullptr;
    Must(Cu().ModuleLoadData(&module, samples::KernelsPtx()), "cuModuleLoadData");
    Must(Cu().ModuleGetFunction(&function, module, name), name);
  }
  return function;
}

void Launch(const char* kernel, std::vector<uint64_t> arguments, CUstream stream) {
  void* pointers[8];
  for (size_t i = 0; i < arguments.size(); ++i) pointers[i] = &arguments[i];
  Must(Cu().LaunchKernel(Kernel(kernel), 32, 1, 1, 128, 1, 1, 0, stream, pointers, nullptr), kernel);
}

}  // namespace

void* LibCuda() {
  static void* const library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) Die(dlerror());
  return library;
}

const Calls& Cu() {
  static const Calls calls = [] {
    Calls bound;
#define GPUROOM_CALL(member, symbol, type) \
  bound.member = reinterpret_cast<decltype(bound.member)>(dlsym(LibCuda(), #symbol));
#include "driver_calls.def"
    return bound;
  }();
  return calls;
}

const Sim& GetSim() {
  static const Sim sim = [] {
    Sim bound;
    Load(bound.call_count, "gpuroom_sim_call_count");
    Load(bound.early_launches, "gpuroom_sim_early_launches");
    Load(bound.fail, "gpuroom_sim_fail");
    Load(bound.leaks, "gpuroom_sim_leaks");
    Load(bound.used, "gpuroom_sim_used");
    Load(bound.strict_errors, "gpuroom_sim_strict_errors");
    Load(bound.clear_strict_errors, "gpuroom_sim_clear_strict_errors");
    return bound;
  }();
  return sim;
}

std::string Leaks() {
  char text[4096] = {};
  return GetSim().leaks(text, sizeof text) == 0 ? "" : text;
}

std::string StrictErrors() {
  char text[4096] = {};
  return GetSim().strict_errors(text, sizeof text) == 0 ? "" : text;
}

Info MemInfo() {
  Info info;
  Must(Cu().MemGetInfo(&info.free, &info.total), "cuMemGetInfo");
  return info;
}

CUcontext UseDevice(int device) {
  Must(Cu().Init(0), "cuInit");
  CUcontext context = nullptr;
  Must(Cu().DevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
  Must(Cu().CtxSetCurrent(context), "cuCtxSetCurrent");
  return context;
}

void Fill(CUdeviceptr p, uint64_t bytes, uint64_t seed, CUstream stream) {
  Launch("gpuroom_fill", {p, bytes / 8, seed}, stream);
}

void Verify(CUdeviceptr p, uint64_t bytes, uint64_t seed, CUdeviceptr bad, CUstream stream) {
  Launch("gpuroom_verify", {p, bytes / 8, seed, bad}, stream);
}

void Spin(uint64_t nanoseconds, CUstream stream) { Launch("gpuroom_spin", {nanoseconds}, stream); }

bool BeginsEarly() {
  const uint64_t before = GetSim().early_launches();
  SpinEarly(1);
  return GetSim().early_launches() > before;
}

void SpinEarly(uint64_t nanoseconds, CUstream stream) {
  CUlaunchAttribute attributes[2] = {};
  attributes[0].id = CU_LAUNCH_ATTRIBUTE_PRIORITY;
  attributes[1].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
  attributes[1].value.programmaticStreamSerializationAllowed = 1;
  CUlaunchConfig config = {};
  config.gridDimX = config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = config.blockDimY = config.blockDimZ = 1;
  config.hStream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  void* pointers[] = {&nanoseconds};
  Must(Cu().LaunchKernelEx(&config, Kernel("gpuroom_spin"), pointers, nullptr), "cuLaunchKernelEx");
  if (config.numAttrs != 2 || attributes[1].value.programmaticStreamSerializationAllowed != 1)
    Die("cuLaunchKernelEx changed its caller's attributes");
}

uint64_t CountBad(CUdeviceptr p, uint64_t bytes, uint64_t seed, CUstream stream) {
  CUdeviceptr bad = 0;
  uint64_t count = 0;
  Must(Cu().MemAlloc(&bad, sizeof count), "cuMemAlloc");
  Must(Cu().MemcpyHtoDAsync(bad, &count, sizeof count, stream), "cuMemcpyHtoDAsync");
  Verify(p, bytes, seed, bad, stream);
  Must(Cu().StreamSynchronize(stream), "cuStreamSynchronize");
  Must(Cu().MemcpyDtoH(&count, bad, sizeof count), "cuMemcpyDtoH");
  Must(Cu().MemFree(bad), "cuMemFree");
  return count;
}

uint64_t FilledWord(uint64_t seed, uint64_t index) {
  uint64_t z = seed + index + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

CUmemAllocationProp DeviceMemory(int device) {
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device}};
  return prop;
}

CUmemAccessDesc DeviceAccess(int device) {
  return {{CU_MEM_LOCATION_TYPE_DEVICE, {device}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
}

Placement PlacementOf(CUdeviceptr p) {
  static const auto describe =
      reinterpret_cast<decltype(&gpuroom_describe)>(dlsym(RTLD_DEFAULT, "gpuroom_describe"));
  if (describe == nullptr) Die("gpuroom_describe");
  gpuroom_placement placement{};
  if (describe(p, &placement, sizeof placement) != 0) return {};
  return {placement.device_bytes, placement.host_bytes};
}

std::string NameOf(CUresult result) {
  static const auto get_name =
      reinterpret_cast<CUresult (*)(CUresult, const char**)>(dlsym(LibCuda(), "cuGetErrorName"));
  const char* name = nullptr;
  if (get_name(result, &name) != CUDA_SUCCESS) return std::to_string(result);
  return name;
}

}  // namespace gpuroom::shim_test
