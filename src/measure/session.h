// Session: one GPU with its primary context current on the calling thread, a
// stream, and the sample kernels loaded. Times kernels over device addresses, and
// checks what they read and wrote: a fast wrong answer is no figure.
//
// One thread. Every call waits for the work it started.
#pragma once

#include <cuda.h>

#include <functional>
#include <memory>

#include "base/status.h"
#include "driver/driver.h"
#include "measure/calls.h"

namespace gpuroom::measure {

// Bytes per second; 0: not measured.
struct Speeds {
  double read = 0;
  double write = 0;
};

// What is measured: `bytes` at `va`. Where a kernel's run changes where the memory
// lies, `before_each` puts it back, and a timing is one run; else it is empty.
struct Target {
  CUdeviceptr va = 0;
  uint64_t bytes = 0;
  std::function<Status()> before_each;
};

class Session {
 public:
  // Retains and makes current the primary context of `device`.
  static Result<std::unique_ptr<Session>> Open(const Driver& driver, CUdevice device);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // The best of `rounds` timings of a kernel that reads `target` and of one that
  // writes it. Fills it first, and overwrites it. kDriver when the contents were
  // wrong at any point.
  Result<Speeds> Measure(const Target& target, int rounds);

  // Writes contents that depend on `seed` and on nothing else; kDriver when they
  // are not there any more.
  Status Fill(const Target& target, uint64_t seed);
  Status Check(const Target& target, uint64_t seed);

  const Driver& driver() const { return driver_; }
  const Calls& calls() const { return calls_; }
  CUdevice device() const { return device_; }
  CUcontext context() const { return context_; }
  CUstream stream() const { return stream_; }

 private:
  Session(const Driver& driver, const Calls& calls, CUdevice device);
  Status Prepare();
  Status Launch(CUfunction kernel, void** arguments);
  Result<uint64_t> Sum(const Target& target);
  // Seconds of one run, as the mean of `launches` in a row, and what they summed.
  Result<double> TimeRead(const Target& target, int launches, uint64_t* sum);
  Result<double> TimeWrite(const Target& target, int launches);
  template <typename Launches>
  Result<double> Timed(int launches, Launches enqueue);
  Result<double> BestRead(const Target& target, int rounds);
  Result<double> BestWrite(const Target& target, int rounds);
  Status SetCell(uint64_t value);
  Result<uint64_t> GetCell();

  const Driver& driver_;
  const Calls calls_;
  const CUdevice device_;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
  CUmodule module_ = nullptr;
  CUfunction fill_ = nullptr;
  CUfunction store_ = nullptr;
  CUfunction sum_ = nullptr;
  CUfunction verify_ = nullptr;
  CUevent start_ = nullptr;
  CUevent stop_ = nullptr;
  CUdeviceptr cell_ = 0;  // one word that kernels add to
  unsigned blocks_ = 0;
};

}  // namespace gpuroom::measure
