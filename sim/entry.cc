#include "entry.h"

#include "capture.h"

namespace gpuroom::sim {

CUcontext CurrentContext() {
  const ThreadState& thread = GetThread();
  return thread.contexts.empty() ? nullptr : thread.contexts.back();
}

Guard::Guard(CallSite& site, Need need) : state_(GetState()), thread_(GetThread()) {
  site.calls.fetch_add(1, std::memory_order_relaxed);
  // A forked child must not wait for a lock that a thread of its parent held.
  if (state_.forked.load(std::memory_order_relaxed)) {
    result_ = CUDA_ERROR_NOT_INITIALIZED;
    return;
  }
  lock_ = Lock(state_.mutex);
  result_ = Check(site, need);
}

CUresult Guard::Check(const CallSite& site, Need need) {
  if (need != Need::kNothing && !state_.initialized) return CUDA_ERROR_NOT_INITIALIZED;
  if (thread_.in_host_function) return CUDA_ERROR_NOT_PERMITTED;
  const CUresult injected = InjectedFailure(site.name);
  if (injected != CUDA_SUCCESS) return injected;
  CUresult result = CUDA_SUCCESS;
  if (need == Need::kContext || need == Need::kUnsafe) result = RequireContext();
  if (result == CUDA_SUCCESS && need == Need::kUnsafe) result = RefuseUnsafeCall();
  return result;
}

CUresult Guard::RequireContext() {
  context_ = CurrentContext();
  if (context_ == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (!state_.contexts.contains(context_)) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  return context_->sticky;
}

}  // namespace gpuroom::sim
