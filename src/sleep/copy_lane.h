// CopyLane: a stream of one device for copies between its memory and host chunks that
// are mapped for it.
#pragma once

#include "driver/driver.h"

namespace gpuroom {

// Its calls want the device's context to be current.
class CopyLane {
 public:
  explicit CopyLane(const Driver& driver) : driver_(driver) {}
  CopyLane(const CopyLane&) = delete;
  CopyLane& operator=(const CopyLane&) = delete;

  Status Open();
  // Waits for what is under way. Before the end of this.
  void Close();
  Status Copy(CUdeviceptr to, CUdeviceptr from, uint64_t bytes);
  // To ordinary memory; may wait for what is under way.
  Status CopyToHost(void* to, CUdeviceptr from, uint64_t bytes);
  // Waits for all copies.
  Status Wait();
  CUdevice device() const { return device_; }

 private:
  const Driver& driver_;
  CUdevice device_ = 0;
  CUstream stream_ = nullptr;
};

}  // namespace gpuroom
