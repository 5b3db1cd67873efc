#include "runtime/captures.h"

#include <algorithm>
#include <chrono>

namespace gpuroom {

Captures::Quiet::Quiet(Captures& captures) : lock_(captures.quiet_) {
  if (captures.Any()) lock_.unlock();
}

void Captures::Begin(CUstream stream) {
  CUcontext context = nullptr;
  if (driver_.StreamGetCtx(stream, &context) != CUDA_SUCCESS) context = nullptr;
  const std::unique_lock wait(quiet_, std::chrono::seconds(1));
  MutexLock lock(mutex_);
  captures_.push_back({stream, context});
  Count();
}

void Captures::End(CUstream stream) {
  if (!Any()) return;
  MutexLock lock(mutex_);
  // One only: two threads' per-thread default streams have the same handle.
  const auto found = std::find_if(captures_.begin(), captures_.end(),
                                  [stream](const Capture& each) { return each.stream == stream; });
  if (found != captures_.end()) captures_.erase(found);
  Count();
}

void Captures::ForgetContext(CUcontext context) {
  if (!Any()) return;
  MutexLock lock(mutex_);
  std::erase_if(captures_, [context](const Capture& each) { return each.context == context; });
  Count();
}

void Captures::Count() { count_.store(static_cast<int>(captures_.size()), std::memory_order_release); }

CUresult Captures::Ask(CUstream stream, bool* capturing) const {
  *capturing = false;
  if (!Any()) return CUDA_SUCCESS;
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  const CUresult result = driver_.StreamIsCapturing(stream, &status);
  // The legacy stream itself cannot be captured.
  if (result == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT) return CUDA_SUCCESS;
  *capturing = result == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE;
  return result;
}

}  // namespace gpuroom
