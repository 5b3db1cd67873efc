// RelaxedCapture: while one lives, this thread's calls do not break the captures
// of streams that they do not touch.
#pragma once

#include "driver/driver.h"
#include "driver/insist.h"

namespace gpuroom {

class RelaxedCapture {
 public:
  explicit RelaxedCapture(const Driver& driver) : driver_(driver) {
    ok_ = driver_.ThreadExchangeStreamCaptureMode(&mode_) == CUDA_SUCCESS;
  }
  ~RelaxedCapture() {
    if (ok_) Insist([this] { return driver_.ThreadExchangeStreamCaptureMode(&mode_); });
  }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

  explicit operator bool() const { return ok_; }

 private:
  const Driver& driver_;
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
  bool ok_ = false;
};

}  // namespace gpuroom
