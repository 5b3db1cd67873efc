// The sample's GPU: an ordinary use of the CUDA driver API through dlopen, with
// the kernels of samples/kernels. Knows nothing of gpuroom.
//
// One thread. Every call returns CUDA_SUCCESS or the driver's error; `step()`
// names the call that failed. The destructor gives everything back but buffers,
// which are their owner's.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <string>

namespace gpuroom::samples {

class Gpu {
 public:
  Gpu() = default;
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  // Opens libcuda.so.1 and the first device. False: there is none; step() says what is missing.
  bool Load();
  CUresult Open();

  CUresult Allocate(uint64_t bytes, CUdeviceptr* buffer);
  CUresult Free(CUdeviceptr buffer);
  // Word i becomes Mix(seed + i). Waits.
  CUresult Fill(CUdeviceptr buffer, uint64_t words, uint64_t seed);
  // How many words are not what Fill wrote.
  CUresult CountWrong(CUdeviceptr buffer, uint64_t words, uint64_t seed, uint64_t* wrong);
  // Sum of the words, and how long the kernel took by the GPU's own events.
  CUresult Sum(CUdeviceptr buffer, uint64_t words, uint64_t* sum, double* seconds);
  CUresult Read(CUdeviceptr source, uint64_t* words, uint64_t count);

  const std::string& name() const { return name_; }
  uint64_t total() const { return total_; }
  uint64_t free() const { return free_; }
  const char* step() const { return step_; }
  // The driver is gpuroom's simulated one: speeds are then no GPU's.
  bool simulated() const;

 private:
  CUresult Check(CUresult result, const char* step);
  CUresult LoadKernels();
  CUresult Launch(CUfunction kernel, void** arguments, const char* step);
  CUresult SetCell(uint64_t value);
  CUresult GetCell(uint64_t* value);

  struct Calls {
#define SAMPLE_CALL(member, symbol) decltype(&::symbol) member = nullptr;
#include "driver_calls.def"
  };
  Calls calls_;
  void* library_ = nullptr;
  const char* step_ = "";
  std::string name_;
  uint64_t total_ = 0;
  uint64_t free_ = 0;
  unsigned blocks_ = 0;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUmodule module_ = nullptr;
  CUfunction fill_ = nullptr;
  CUfunction sum_ = nullptr;
  CUfunction verify_ = nullptr;
  CUstream stream_ = nullptr;
  CUevent start_ = nullptr;
  CUevent stop_ = nullptr;
  CUdeviceptr cell_ = 0;  // one word that kernels add to
};

}  // namespace gpuroom::samples
