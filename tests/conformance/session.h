// Session: one process's use of the driver for the probes: initialised, device
// 0's primary context current, the sample kernels loaded. Scope: what one probe
// makes; it is taken back in reverse order when the probe ends, however it ends.
//
// Both report an unexpected driver error by throwing ProbeFailure, whose text
// becomes the probe's result. One thread at a time, except where a probe starts
// threads itself. Nothing here allocates more than the probe asks for.
#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/size.h"
#include "cuda_api.h"

namespace gpuroom::conformance {

struct ProbeFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// "SUCCESS", "INVALID_VALUE": the driver's name without CUDA_ and ERROR_.
std::string Name(CUresult result);

// Throws ProbeFailure naming the step unless the call succeeded.
void Need(CUresult result, const char* step);

enum class Place { kDevice, kNode, kHost, kPeer };  // device 0, HOST_NUMA, HOST, device 1

inline constexpr size_t kChunk = 2 * kMiB;  // the granularity that probes assume (probed by itself)

class Session {
 public:
  // Binds; throws ProbeFailure with a sentence when there is no usable driver.
  Session();
  // cuInit, device 0's primary context current, kernels loaded. Again: nothing.
  void Start();

  const Cuda& cu() const { return cu_; }
  CUdevice device() const { return device_; }
  CUcontext context() const { return context_; }
  int device_count() const { return device_count_; }
  int host_node() const { return host_node_; }
  CUfunction Kernel(const char* name);
  // Kernels come from `module` from now on; returns the one before. For another context.
  CUmodule ExchangeModule(CUmodule module) { return std::exchange(module_, module); }
  CUmemLocation Location(Place place) const;
  CUmemAllocationProp Prop(Place place) const;

  // Launches on `stream`; the kernel's arguments as in kernels.cu.
  void Fill(CUdeviceptr p, uint64_t words, uint64_t seed, CUstream stream);
  void Sum(CUdeviceptr p, uint64_t words, CUdeviceptr out, CUstream stream);
  void Verify(CUdeviceptr p, uint64_t words, uint64_t seed, CUdeviceptr bad, CUstream stream);
  void Spin(uint64_t nanoseconds, CUstream stream);

 private:
  void Launch(const char* kernel, unsigned blocks, void** arguments, CUstream stream);

  Cuda cu_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUmodule module_ = nullptr;
  int device_count_ = 0;
  int host_node_ = 0;
};

class Scope {
 public:
  explicit Scope(Session& session) : session_(session), cu_(session.cu()) {}
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  // Makers throw on failure; what they made is taken back with the scope.
  CUdeviceptr Alloc(size_t bytes);
  CUdeviceptr AllocAsync(size_t bytes, CUstream stream);
  CUdeviceptr Managed(size_t bytes);
  void* Pinned(size_t bytes);
  CUdeviceptr Reserve(size_t bytes);
  CUmemGenericAllocationHandle Create(Place place, size_t bytes = kChunk);
  void Map(CUdeviceptr va, size_t bytes, CUmemGenericAllocationHandle handle);
  void Access(CUdeviceptr va, size_t bytes, Place place = Place::kDevice);
  CUstream Stream(unsigned flags = CU_STREAM_NON_BLOCKING);
  CUevent Event();

  // A mapped range with device access; one chunk of kChunk bytes per place.
  CUdeviceptr Range(const std::vector<Place>& places);
  // Chunks that alternate between the device and the host node.
  CUdeviceptr Mixed(size_t chunks);

  // Takers return the driver's answer; on success the scope forgets the thing.
  CUresult Free(CUdeviceptr p);
  CUresult FreeAsync(CUdeviceptr p, CUstream stream);
  CUresult AddressFree(CUdeviceptr va, size_t bytes);
  CUresult Release(CUmemGenericAllocationHandle handle);
  CUresult Unmap(CUdeviceptr va, size_t bytes);

  // Runs at the end of the scope, before what was made earlier is taken back.
  void AtEnd(std::function<void()> action) { Push(nullptr, 0, std::move(action)); }

 private:
  struct Entry {
    const char* kind;
    uint64_t key;
    std::function<void()> undo;
  };
  void Push(const char* kind, uint64_t key, std::function<void()> undo) {
    entries_.push_back({kind, key, std::move(undo)});
  }
  CUresult Drop(const char* kind, uint64_t key, CUresult result);

  Session& session_;
  const Cuda& cu_;
  std::vector<Entry> entries_;
};

}  // namespace gpuroom::conformance
