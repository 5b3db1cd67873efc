#include "driver/synchronize.h"

#include "driver/insist.h"

namespace gpuroom {
namespace {

// What the driver says of a context that was destroyed, or reset; anything else says nothing of it.
bool IsGone(CUresult result) {
  return result == CUDA_ERROR_INVALID_CONTEXT || result == CUDA_ERROR_CONTEXT_IS_DESTROYED ||
         result == CUDA_ERROR_INVALID_VALUE || result == CUDA_ERROR_DEINITIALIZED;
}

}  // namespace

Status SynchronizeContext(const Driver& driver, CUcontext context, bool* gone) {
  CUcontext current = nullptr;
  const bool push = driver.CtxGetCurrent(&current) != CUDA_SUCCESS || current != context;
  const CUresult pushed = push ? driver.CtxPushCurrent(context) : CUDA_SUCCESS;
  // One that is gone may be current still.
  const CUresult result = pushed == CUDA_SUCCESS ? driver.CtxSynchronize() : pushed;
  if (push && pushed == CUDA_SUCCESS) PopContext(driver);
  const bool ended = IsGone(result);
  if (gone != nullptr) *gone = ended;
  if (ended) return Status();
  return DriverStatus(result, pushed == CUDA_SUCCESS ? "cuCtxSynchronize" : "cuCtxPushCurrent");
}

}  // namespace gpuroom
