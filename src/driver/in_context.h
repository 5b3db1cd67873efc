// InContext: while one lives, `context` is the current one of this thread if status() is ok; null: whichever
// is. Costs one driver call where it is current already.
#pragma once

#include "driver/insist.h"

namespace gpuroom {

class InContext {
 public:
  InContext(const Driver& driver, CUcontext context) : driver_(driver) {
    CUcontext current = nullptr;
    if (context == nullptr || (driver.CtxGetCurrent(&current) == CUDA_SUCCESS && current == context)) return;
    const CUresult result = Insist([&] { return driver.CtxPushCurrent(context); });
    pushed_ = result == CUDA_SUCCESS;
    status_ = DriverStatus(result, "cuCtxPushCurrent");
  }
  ~InContext() {
    if (pushed_) PopContext(driver_);
  }
  InContext(const InContext&) = delete;
  InContext& operator=(const InContext&) = delete;

  const Status& status() const { return status_; }

 private:
  const Driver& driver_;
  bool pushed_ = false;
  Status status_;
};

}  // namespace gpuroom
