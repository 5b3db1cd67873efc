#include "runtime/captures.h"

#include <algorithm>
#include <chrono>

namespace headroom {

Captures::Quiet::Quiet(Captures& captures) : lock_(captures.quiet_) {
  if (captures.Any()) lock_.unlock();
}

void Captures::Begin(CUstream stream) {
  const std::unique_lock wait(quiet_, std::chrono::seconds(1));
  MutexLock lock(mutex_);
  streams_.push_back(stream);
  count_.store(static_cast<int>(streams_.size()), std::memory_order_release);
}

void Captures::End(CUstream stream) {
  if (!Any()) return;
  MutexLock lock(mutex_);
  // One only: two threads' per-thread default streams have the same handle.
  const auto found = std::find(streams_.begin(), streams_.end(), stream);
  if (found != streams_.end()) streams_.erase(found);
  count_.store(static_cast<int>(streams_.size()), std::memory_order_release);
}

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

}  // namespace headroom
