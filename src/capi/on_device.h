// OnDevice: the context in which a C function works that is told a device by its ordinal: the
// current one if it is of that device, else the device's primary one, for as long as this lives.
#pragma once

#include "driver/insist.h"
#include "runtime/runtime.h"

namespace headroom {

class OnDevice {
 public:
  OnDevice(const Driver& driver, int device) : driver_(driver), device_(device) {
    CUdevice current = -1;
    if (driver.CtxGetDevice(&current) == CUDA_SUCCESS && current == device) return;
    CUcontext context = nullptr;
    CUresult result = driver.DevicePrimaryCtxRetain(&context, device);
    retained_ = result == CUDA_SUCCESS;
    if (retained_) result = driver.CtxPushCurrent(context);
    pushed_ = result == CUDA_SUCCESS;
    status_ = DriverStatus(result, "making the device's context current");
  }
  ~OnDevice() {
    if (pushed_) PopContext(driver_);
    if (retained_) driver_.DevicePrimaryCtxRelease(device_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  const Status& status() const { return status_; }

 private:
  const Driver& driver_;
  const CUdevice device_;
  bool retained_ = false;
  bool pushed_ = false;
  Status status_;
};

}  // namespace headroom
