#include "runtime/allocate.h"

#include "base/log.h"
#include "base/trace.h"
#include "base/undo.h"
#include "driver/in_context.h"
#include "driver/insist.h"
#include "driver/synchronize.h"
#include "runtime/intent.h"
#include "runtime/refusal.h"

namespace gpuroom {
namespace {

// What belongs in HBM and does not fit there lets older large data give way.
void MakeRoomByPlan(Runtime& rt, DeviceState& device, RangeRequest& request) {
  PlanRequest& plan = request.plan;
  plan.bytes = RoundUp(request.bytes, kGranularity);
  const bool belongs = plan.resident || plan.hint == Hint::kHot;
  if (!belongs || rt.captures.Any() || plan.bytes <= device.source.DeviceFree()) return;
  plan.displaceable = Displaceable(rt, device);
  const Result<Plan> made = device.source.MakePlanFor(plan);
  plan.displaceable = 0;  // the second plan takes what is free then
  if (made.ok() && made->displace > 0) Displace(rt, device, made->displace);
}

// Where the whole is known: leaves what comes later its part. What will be the oldest goes to the host, if as
// much has to go there anyway.
void LookAhead(const Runtime& rt, const DeviceState& device, PlanRequest& plan) {
  const uint64_t expect = rt.options.expect;
  if (expect == 0) return;
  const uint64_t asked = rt.ranges.BytesOf(device.tier.device()) + plan.bytes;
  if (expect <= asked) return;
  plan.ahead = expect - asked;
  const uint64_t oldest = expect / kOldestPart;
  const bool first = asked <= oldest && plan.ahead + plan.bytes >= device.source.DeviceFree() + oldest;
  if (first && plan.policy == Policy::kBalanced) plan.policy = Policy::kCpuFirst;
}

Result<std::unique_ptr<Range>> BuildRange(Runtime& rt, DeviceState& device, size_t bytes) {
  RangeRequest request;
  request.bytes = bytes;
  request.plan = IntentFor(rt, bytes);
  // A free waits for this context's work.
  const CUresult result = rt.driver.CtxGetCurrent(&request.context);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuCtxGetCurrent");
  ReclaimRetired(rt);
  if (bytes < UINT64_MAX - kGranularity) {
    LookAhead(rt, device, request.plan);
    MakeRoomByPlan(rt, device, request);
  }
  Result<std::unique_ptr<Range>> range = device.builder.Build(request);
  if (range.status().code() == Code::kOutOfMemory && DrainRetired(rt)) range = device.builder.Build(request);
  if (!range.ok()) return range;
  (*range)->wants_device = WantsDevice(request.plan);
  MarkByThread(range->get());
  return range;
}

Status RecordEvent(const Driver& driver, CUstream stream, CUevent* out) {
  const CUresult created = driver.EventCreate(out, CU_EVENT_DISABLE_TIMING);
  if (created != CUDA_SUCCESS) return DriverStatus(created, "cuEventCreate");
  const CUresult recorded = driver.EventRecord(*out, stream);
  if (recorded != CUDA_SUCCESS) Insist([&] { return driver.EventDestroy(*out); });
  return DriverStatus(recorded, "cuEventRecord");
}

// Whether the program wants more memory left free than there would be.
bool LeavesTooLittle(const Runtime& rt, const DeviceState& device, size_t bytes) {
  const uint64_t margin = rt.margin.load(std::memory_order_relaxed);
  if (margin == 0 || IntentOfThread().tag_id == kUntagged) return false;
  size_t free = 0;
  size_t total = 0;
  if (rt.driver.MemGetInfo(&free, &total) != CUDA_SUCCESS) return false;
  const uint64_t visible = device.VisibleFree(free);
  return bytes > visible || visible - bytes < margin;
}

}  // namespace

CUresult AllocateRange(Runtime& rt, DeviceState& device, size_t bytes, CUdeviceptr* out) {
  const uint64_t start = Trace::Now();
  if (LeavesTooLittle(rt, device, bytes)) {
    const Status why(Code::kOutOfMemory, "less would stay free than the program asked to leave");
    NoteRefusal(rt, device, RefusedBy::kMargin, why, bytes);
    *out = 0;
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  Result<std::unique_ptr<Range>> range = BuildRange(rt, device, bytes);
  if (!range.ok()) {
    NoteRefusal(rt, device, RefusedBy::kTiers, range.status(), bytes);
    *out = 0;  // as the driver leaves it
    return AllocationResult(range.status());
  }
  Range& inserted = **range;  // nobody can free it yet
  const CUdeviceptr va = inserted.va;
  Undo give_back([&] { device.builder.Discard(*range != nullptr ? std::move(*range) : rt.ranges.Take(va)); });
  rt.ranges.Insert(std::move(*range));
  const Status status = device.builder.CatchUp(inserted);
  if (!status.ok()) Log(LogLevel::kWarn, "another GPU cannot reach an allocation: %s", status.what());
  give_back.Dismiss();
  *out = va;
  device.counts.Count(bytes, inserted.host_bytes > 0);
  Trace::Add(TraceKind::kAllocation, device.tier.device(), start,
             {va, inserted.bytes, inserted.host_bytes, inserted.peer_bytes});
  return CUDA_SUCCESS;
}

CUresult FreeRange(Runtime& rt, std::unique_ptr<Range> range) {
  const uint64_t start = Trace::Now();
  rt.EndHoldIfAwake();
  RangeBuilder& builder = rt.ExistingDevice(range->device)->builder;
  Status status;
  if (const Captures::Quiet quiet(rt.captures); quiet) {
    // As cuMemFree does. Unmapping itself does not wait (docs/driver-notes.md).
    status = SynchronizeContext(rt.driver, range->context);
  } else {
    Trace::Add(TraceKind::kFree, range->device, 0, {range->va, range->bytes});
    rt.retired.Add({std::move(range), &builder});
    return CUDA_SUCCESS;
  }
  if (status.ok()) status = builder.Unmap(*range);
  if (!status.ok()) {
    rt.ranges.Insert(std::move(range));
    return ToCuResult(status);
  }
  DeviceState& device = *rt.ExistingDevice(range->device);
  Trace::Add(TraceKind::kFree, range->device, start, {range->va, range->bytes});
  builder.Discard(std::move(range));
  MoveBack(rt, device);
  return CUDA_SUCCESS;
}

CUresult RetireRange(Runtime& rt, std::unique_ptr<Range> range, CUstream stream) {
  rt.EndHoldIfAwake();
  RangeBuilder& builder = rt.ExistingDevice(range->device)->builder;
  // An event belongs to its stream's context, which need not be the current one.
  CUcontext context = nullptr;
  if (rt.driver.StreamGetCtx(stream, &context) != CUDA_SUCCESS) rt.driver.CtxGetCurrent(&context);
  CUevent event = nullptr;
  Status status;
  {
    const InContext there(rt.driver, context);
    status = RecordEvent(rt.driver, stream, &event);
  }
  if (!status.ok()) {
    rt.ranges.Insert(std::move(range));
    return ToCuResult(status);
  }
  DeviceState& device = *rt.ExistingDevice(range->device);
  Trace::Add(TraceKind::kFree, range->device, 0, {range->va, range->bytes});
  rt.retired.Add({std::move(range), &builder, event, context, stream});
  MoveBack(rt, device);
  return CUDA_SUCCESS;
}

}  // namespace gpuroom
