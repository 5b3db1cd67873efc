// DeviceContext: a context of a device, for what works on all of the device's memory: the current one
// if it is of that device, else the device's primary one, kept for as long as this lives. OnDevice also
// makes it current.
#pragma once

#include "driver/in_context.h"

namespace gpuroom {

class DeviceContext {
 public:
  DeviceContext(const Driver& driver, CUdevice device) : driver_(driver), device_(device) {
    CUdevice current = -1;
    const bool here = driver.CtxGetDevice(&current) == CUDA_SUCCESS && current == device &&
                      driver.CtxGetCurrent(&context_) == CUDA_SUCCESS;
    if (here) return;
    const CUresult result = driver.DevicePrimaryCtxRetain(&context_, device);
    retained_ = result == CUDA_SUCCESS;
    status_ = DriverStatus(result, "cuDevicePrimaryCtxRetain");
  }
  ~DeviceContext() {
    if (retained_) driver_.DevicePrimaryCtxRelease(device_);
  }
  DeviceContext(const DeviceContext&) = delete;
  DeviceContext& operator=(const DeviceContext&) = delete;

  const Status& status() const { return status_; }
  CUcontext get() const { return context_; }

 private:
  const Driver& driver_;
  const CUdevice device_;
  CUcontext context_ = nullptr;
  bool retained_ = false;
  Status status_;
};

class OnDevice {
 public:
  OnDevice(const Driver& driver, CUdevice device) : context_(driver, device), here_(driver, context_.get()) {}

  const Status& status() const { return context_.status().ok() ? here_.status() : context_.status(); }

 private:
  const DeviceContext context_;
  const InContext here_;
};

// The device of a context.
inline Result<CUdevice> DeviceOf(const Driver& driver, CUcontext context) {
  CUdevice device = -1;
  CUresult result = driver.CtxPushCurrent(context);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuCtxPushCurrent");
  result = driver.CtxGetDevice(&device);
  PopContext(driver);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuCtxGetDevice");
  return device;
}

}  // namespace gpuroom
