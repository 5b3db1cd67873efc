// InContext: while one lives, `context` is the current one of this thread; null: whichever is. Costs one
// driver call where it is current already.
#pragma once

#include "driver/insist.h"

namespace headroom {

class InContext {
 public:
  InContext(const Driver& driver, CUcontext context) : driver_(driver) {
    CUcontext current = nullptr;
    if (context == nullptr || (driver.CtxGetCurrent(&current) == CUDA_SUCCESS && current == context)) return;
    pushed_ = driver.CtxPushCurrent(context) == CUDA_SUCCESS;
  }
  ~InContext() {
    if (pushed_) PopContext(driver_);
  }
  InContext(const InContext&) = delete;
  InContext& operator=(const InContext&) = delete;

 private:
  const Driver& driver_;
  bool pushed_ = false;
};

}  // namespace headroom
