#include "cli/doctor_probe.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/size.h"
#include "base/undo.h"
#include "cli/driver_advice.h"

namespace gpuroom {
namespace {

constexpr unsigned char kPattern = 0xa5;
constexpr size_t kSmall = 2 * kMiB;

// "" for success, else the step and the driver's name for the error.
std::string Told(const char* step, CUresult result) {
  if (result == CUDA_SUCCESS) return "";
  const std::string name = ErrorName(result);
  if (name.starts_with("CUDA_")) return fmt::format("{}: {}", step, name);
  return fmt::format("{}: CUDA error {}", step, static_cast<int>(result));
}

// Steps in a row: after one failed, the rest are not made.
class Steps {
 public:
  template <typename Call>
  bool Do(const char* step, Call call) {
    if (!failure_.empty()) return false;
    result_ = call();
    failure_ = Told(step, result_);
    return failure_.empty();
  }
  void Fail(std::string failure) {
    if (failure_.empty()) failure_ = std::move(failure);
  }
  // For clean-up: made whatever happened before.
  void Always(const char* step, CUresult result) { Fail(Told(step, result)); }
  bool ok() const { return failure_.empty(); }
  const std::string& failure() const { return failure_; }
  // What the driver said of the last step that Do made.
  CUresult result() const { return result_; }

 private:
  std::string failure_;
  CUresult result_ = CUDA_SUCCESS;
};

class Prober {
 public:
  Prober(const Driver& driver, const Gpu& gpu) : driver_(driver), gpu_(gpu) {
    memset_ = reinterpret_cast<decltype(memset_)>(dlsym(driver.library, "cuMemsetD8_v2"));
    copy_back_ = reinterpret_cast<decltype(copy_back_)>(dlsym(driver.library, "cuMemcpyDtoH_v2"));
  }

  CUmemLocation DeviceLocation() const { return Location(CU_MEM_LOCATION_TYPE_DEVICE, gpu_.device); }
  CUmemLocation HostLocation() const {
    return Location(CU_MEM_LOCATION_TYPE_HOST_NUMA, std::max(gpu_.host_numa_node, 0));
  }

  // A range of one chunk in each location, mapped side by side.
  Steps TryRange(const std::vector<CUmemLocation>& locations);
  std::string TryExport();
  std::string TryManaged();
  std::string TryAsync();

 private:
  static CUmemLocation Location(CUmemLocationType type, int id) {
    CUmemLocation location = {};
    location.type = type;
    location.id = id;
    return location;
  }
  static CUmemAllocationProp Properties(CUmemLocation location, CUmemAllocationHandleType handles) {
    CUmemAllocationProp properties = {};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = location;
    properties.requestedHandleTypes = handles;
    return properties;
  }
  // The granularity that suits every location.
  size_t Granularity(const std::vector<CUmemLocation>& locations, Steps* steps);
  // True when the chunk is mapped, even if a later step failed.
  bool MapChunk(CUdeviceptr address, size_t bytes, CUmemLocation location, Steps* steps);
  void WriteAndCompare(CUdeviceptr address, size_t bytes, Steps* steps);

  const Driver& driver_;
  const Gpu& gpu_;
  decltype(&::cuMemsetD8_v2) memset_ = nullptr;
  decltype(&::cuMemcpyDtoH_v2) copy_back_ = nullptr;
};

size_t Prober::Granularity(const std::vector<CUmemLocation>& locations, Steps* steps) {
  size_t bytes = kSmall;
  for (const CUmemLocation& location : locations) {
    const CUmemAllocationProp properties = Properties(location, CU_MEM_HANDLE_TYPE_NONE);
    size_t granularity = 0;
    steps->Do("cuMemGetAllocationGranularity", [&] {
      return driver_.MemGetAllocationGranularity(&granularity, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
    });
    if (granularity > kGiB) steps->Fail("cuMemGetAllocationGranularity: more than 1 GiB");
    if (steps->ok() && granularity > 0) bytes = RoundUp(bytes, granularity);
  }
  return bytes;
}

// The mapping keeps the memory alive, so the handle is released at once.
bool Prober::MapChunk(CUdeviceptr address, size_t bytes, CUmemLocation location, Steps* steps) {
  const CUmemAllocationProp properties = Properties(location, CU_MEM_HANDLE_TYPE_NONE);
  CUmemGenericAllocationHandle handle = 0;
  if (!steps->Do("cuMemCreate", [&] { return driver_.MemCreate(&handle, bytes, &properties, 0); }))
    return false;
  const bool mapped = steps->Do("cuMemMap", [&] { return driver_.MemMap(address, bytes, 0, handle, 0); });
  steps->Always("cuMemRelease", driver_.MemRelease(handle));
  return mapped;
}

void Prober::WriteAndCompare(CUdeviceptr address, size_t bytes, Steps* steps) {
  if (memset_ == nullptr || copy_back_ == nullptr) {
    steps->Fail("the driver has no cuMemsetD8 or cuMemcpyDtoH");
    return;
  }
  std::vector<unsigned char> back(bytes);
  steps->Do("cuMemsetD8", [&] { return memset_(address, kPattern, bytes); });
  steps->Do("cuMemcpyDtoH", [&] { return copy_back_(back.data(), address, bytes); });
  // Unmapping does not wait for the device; this does.
  steps->Always("cuCtxSynchronize", driver_.CtxSynchronize());
  const bool same = std::all_of(back.begin(), back.end(), [](unsigned char c) { return c == kPattern; });
  if (steps->ok() && !same) steps->Fail("the bytes read back differ from those written");
}

Steps Prober::TryRange(const std::vector<CUmemLocation>& locations) {
  Steps steps;
  const size_t chunk = Granularity(locations, &steps);
  const size_t bytes = chunk * locations.size();
  CUdeviceptr range = 0;
  steps.Do("cuMemAddressReserve", [&] { return driver_.MemAddressReserve(&range, bytes, 0, 0, 0); });
  if (!steps.ok()) return steps;
  std::vector<CUdeviceptr> mapped;
  for (const CUmemLocation& location : locations) {
    const CUdeviceptr address = range + mapped.size() * chunk;
    if (MapChunk(address, chunk, location, &steps)) mapped.push_back(address);
    if (!steps.ok()) break;
  }
  // One access set for the whole range, device access alone: a range whose
  // chunks differ makes copies over it fail.
  CUmemAccessDesc access = {};
  access.location = DeviceLocation();
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  steps.Do("cuMemSetAccess", [&] { return driver_.MemSetAccess(range, bytes, &access, 1); });
  if (steps.ok()) WriteAndCompare(range, bytes, &steps);
  for (const CUdeviceptr address : mapped) steps.Always("cuMemUnmap", driver_.MemUnmap(address, chunk));
  steps.Always("cuMemAddressFree", driver_.MemAddressFree(range, bytes));
  return steps;
}

std::string Prober::TryExport() {
  if (driver_.MemExportToShareableHandle == nullptr || driver_.MemImportFromShareableHandle == nullptr) {
    return "the driver has no cuMemExportToShareableHandle";
  }
  Steps steps;
  const size_t bytes = Granularity({DeviceLocation()}, &steps);
  const CUmemAllocationProp properties =
      Properties(DeviceLocation(), CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  CUmemGenericAllocationHandle handle = 0;
  if (!steps.Do("cuMemCreate", [&] { return driver_.MemCreate(&handle, bytes, &properties, 0); })) {
    return steps.failure();
  }
  int fd = -1;
  steps.Do("cuMemExportToShareableHandle", [&] {
    return driver_.MemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
  });
  CUmemGenericAllocationHandle imported = 0;
  const bool has_import = steps.Do("cuMemImportFromShareableHandle", [&] {
    return driver_.MemImportFromShareableHandle(&imported, reinterpret_cast<void*>(static_cast<intptr_t>(fd)),
                                                CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  });
  if (has_import) steps.Always("cuMemRelease", driver_.MemRelease(imported));
  if (fd >= 0) close(fd);
  steps.Always("cuMemRelease", driver_.MemRelease(handle));
  return steps.failure();
}

std::string Prober::TryManaged() {
  if (driver_.MemAllocManaged == nullptr) return "the driver has no cuMemAllocManaged";
  Steps steps;
  CUdeviceptr address = 0;
  steps.Do("cuMemAllocManaged",
           [&] { return driver_.MemAllocManaged(&address, kSmall, CU_MEM_ATTACH_GLOBAL); });
  if (!steps.ok()) return steps.failure();
  WriteAndCompare(address, kSmall, &steps);
  steps.Always("cuMemFree", driver_.MemFree(address));
  return steps.failure();
}

std::string Prober::TryAsync() {
  if (driver_.MemAllocAsync == nullptr || driver_.MemFreeAsync == nullptr) {
    return "the driver has no cuMemAllocAsync";
  }
  Steps steps;
  CUdeviceptr address = 0;
  if (!steps.Do("cuMemAllocAsync", [&] { return driver_.MemAllocAsync(&address, kSmall, nullptr); })) {
    return steps.failure();
  }
  WriteAndCompare(address, kSmall, &steps);
  steps.Always("cuMemFreeAsync", driver_.MemFreeAsync(address, nullptr));
  steps.Always("cuCtxSynchronize", driver_.CtxSynchronize());
  return steps.failure();
}

Trial Tried(const char* name, bool required, std::string failure, const char* purpose) {
  return {name, required, failure.empty(), std::move(failure), "", purpose};
}

// Host memory on a NUMA node needs a right of the process and memory on the node, which no driver update
// brings.
std::string HostFix(CUresult result, int node) {
  if (result == CUDA_ERROR_NOT_PERMITTED) {
    return "let the process place memory on NUMA nodes: start the container with --cap-add SYS_NICE, or with "
           "a seccomp "
           "profile that allows mbind and set_mempolicy";
  }
  if (result == CUDA_ERROR_OUT_OF_MEMORY || result == CUDA_ERROR_INVALID_VALUE) {
    return fmt::format(
        "check with 'numactl --hardware' that NUMA node {}, the GPU's, has memory and that some is free",
        node);
  }
  return "";
}

Trial TriedHostChunk(const Prober& prober, const Steps& steps) {
  Trial trial = Tried("host_chunk", true, steps.failure(),
                      "What does not fit HBM goes into such chunks of host memory.");
  if (!trial.worked) trial.fix = HostFix(steps.result(), prober.HostLocation().id);
  return trial;
}

}  // namespace

ProbeResult ProbeGpu(const Driver& driver, const Gpu& gpu) {
  ProbeResult result;
  CUcontext context = nullptr;
  const CUresult retained = driver.DevicePrimaryCtxRetain(&context, gpu.device);
  std::string failure = Told("cuDevicePrimaryCtxRetain", retained);
  if (!failure.empty()) {
    result.trials.push_back(Tried("context", true, failure, "Everything runs in the GPU's primary context."));
    result.trials.back().fix = FixForContext(retained, gpu.compute_mode, gpu.ordinal);
    return result;
  }
  const Undo release([&] { (void)driver.DevicePrimaryCtxRelease(gpu.device); });
  failure = Told("cuCtxPushCurrent", driver.CtxPushCurrent(context));
  result.trials.push_back(Tried("context", true, failure, "Everything runs in the GPU's primary context."));
  if (!failure.empty()) return result;
  const Undo pop([&] {
    CUcontext popped = nullptr;
    (void)driver.CtxPopCurrent(&popped);
  });
  size_t free_bytes = 0;
  size_t total = 0;
  if (driver.MemGetInfo(&free_bytes, &total) == CUDA_SUCCESS) result.free_bytes = free_bytes;
  Prober prober(driver, gpu);
  const CUmemLocation device = prober.DeviceLocation();
  const CUmemLocation host = prober.HostLocation();
  result.trials.push_back(Tried("device_chunk", true, prober.TryRange({device}).failure(),
                                "Ranges are made of such chunks in HBM."));
  const Trial host_chunk = TriedHostChunk(prober, prober.TryRange({host}));
  result.trials.push_back(host_chunk);
  result.trials.push_back(Tried("mixed_range", true, prober.TryRange({device, host, device, host}).failure(),
                                "One range over HBM and host memory is what spilling is."));
  if (!result.trials.back().worked) result.trials.back().fix = host_chunk.fix;
  result.trials.push_back(
      Tried("export_fd", false, prober.TryExport(), "Processes share memory of ranges by file descriptors."));
  result.trials.push_back(
      Tried("managed", false, prober.TryManaged(), "The managed backend needs it, ranges do not."));
  result.trials.push_back(Tried("async", false, prober.TryAsync(),
                                "cudaMallocAsync and small allocations use the driver's pool."));
  return result;
}

}  // namespace gpuroom
