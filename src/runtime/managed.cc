#include "runtime/managed.h"

#include "base/trace.h"
#include "runtime/displace.h"
#include "runtime/intent.h"
#include "runtime/refusal.h"

namespace gpuroom {

CUresult AllocateManaged(Runtime& rt, DeviceState& device, size_t bytes, CUstream stream, CUdeviceptr* out,
                         bool* served) {
  const PlanRequest intent = IntentFor(rt, bytes);
  *served = false;
  if (intent.backend != Backend::kManaged) return CUDA_SUCCESS;
  const Captures::Quiet quiet(rt.captures);
  if (!quiet) return CUDA_SUCCESS;
  *served = true;
  const uint64_t start = Trace::Now();
  *out = 0;  // as the driver leaves it on failure
  ReclaimManaged(rt);
  ManagedRequest request{bytes, ManagedPolicy(intent), nullptr, stream};
  // A free waits for this context's work.
  const CUresult result = rt.driver.CtxGetCurrent(&request.context);
  if (result != CUDA_SUCCESS) return result;
  const Result<ManagedBlock> block = device.managed.Allocate(request);
  if (!block.ok()) {
    NoteRefusal(rt, device, RefusedBy::kManagedCap, block.status(), bytes);
    return AllocationResult(block.status());
  }
  rt.managed.Insert(*block);
  device.counts.Count(bytes, false);
  *out = block->va;
  Trace::Add(TraceKind::kAllocation, block->device, start, {block->va, block->bytes});
  return CUDA_SUCCESS;
}

CUresult FreeManaged(Runtime& rt, const ManagedBlock& block, std::optional<CUstream> stream) {
  DeviceState& device = *rt.ExistingDevice(block.device);
  {
    const Captures::Quiet quiet(rt.captures);
    if (!quiet) {
      rt.managed.Defer(block);
      return CUDA_SUCCESS;
    }
    const Status status = device.managed.Free(block, stream);
    if (!status.ok()) {
      rt.managed.Insert(block);
      return ToCuResult(status);
    }
  }
  Trace::Add(TraceKind::kFree, block.device, 0, {block.va, block.bytes});
  MoveBack(rt, device);
  return CUDA_SUCCESS;
}

void ReclaimManaged(Runtime& rt) {
  if (!rt.managed.has_deferred()) return;
  for (const ManagedBlock& block : rt.managed.TakeDeferred()) {
    if (!rt.ExistingDevice(block.device)->managed.Free(block).ok()) rt.managed.Defer(block);
  }
}

}  // namespace gpuroom
