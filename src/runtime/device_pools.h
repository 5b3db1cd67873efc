// DevicePools: the program's memory pools that hold a device's memory, and which device's. What
// one of the current device has no room for may become a range. Other pools lie elsewhere, or are open to the
// host, as no range is. Any thread.
#pragma once

#include <cuda.h>

#include <map>

#include "base/mutex.h"
#include "driver/driver.h"

namespace gpuroom {

class DevicePools {
 public:
  explicit DevicePools(const Driver& driver) : driver_(driver) {}

  void Add(CUmemoryPool pool, CUdevice device);
  void Remove(CUmemoryPool pool);
  // Of those that were added, and the devices' default ones.
  bool IsOf(CUmemoryPool pool, CUdevice device);

 private:
  const Driver& driver_;
  Mutex mutex_;
  std::map<CUmemoryPool, CUdevice> pools_ GPUROOM_GUARDED_BY(mutex_);
};

}  // namespace gpuroom
