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
  request.plan = IntentFor(rt, device, bytes);
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

// Whether a request that HBM has no room for shares a range with others: it is small, and nothing but where
// it lies is to be known of it. What sleeps takes no new blocks.
bool Shares(const Runtime& rt, const DeviceState& device, uint64_t bytes) {
  if (bytes > SmallBlocks::kMost || IsLarge(rt, bytes)) return false;
  const ThreadIntent& thread = IntentOfThread();
  const PlanRequest intent = IntentFor(rt, device, bytes);
  return thread.tag_id == kUntagged && !thread.dispensable && intent.hint == Hint::kNone && intent.resident &&
         rt.memory.totals().asleep.load(std::memory_order_relaxed) == 0;
}

CUresult AllocateBlock(Runtime& rt, DeviceState& device, size_t bytes, CUdeviceptr* out) {
  CUcontext context = nullptr;
  const CUresult result = rt.driver.CtxGetCurrent(&context);
  if (result != CUDA_SUCCESS) return result;
  ReclaimRetired(rt);
  const Result<CUdeviceptr> va = rt.small_blocks.Allocate(device, context, bytes);
  if (!va.ok()) return AllocationResult(va.status());
  *out = *va;
  device.counts.Count(bytes, true);
  return CUDA_SUCCESS;
}

// Marks this point of `stream`, so that memory freed here waits for it. An event belongs to its stream's
// context, which need not be the current one.
Status MarkPoint(Runtime& rt, CUstream stream, RetiredMemory* memory) {
  memory->stream = stream;
  if (rt.driver.StreamGetCtx(stream, &memory->event_context) != CUDA_SUCCESS)
    rt.driver.CtxGetCurrent(&memory->event_context);
  const InContext there(rt.driver, memory->event_context);
  return RecordEvent(rt.driver, stream, &memory->event);
}

}  // namespace

bool DrainRetired(Runtime& rt) {
  const Captures::Quiet quiet(rt.captures);
  if (!quiet) return false;
  const bool any = !rt.retired.empty();
  if (any) rt.retired.Drain();
  return rt.small_blocks.Trim() || any;
}

CUresult AllocateApart(Runtime& rt, DeviceState& device, size_t bytes, CUstream stream, CUdeviceptr* out) {
  bool served = false;
  const CUresult result = AllocateManaged(rt, device, bytes, stream, out, &served);
  if (served) return result;
  if (Shares(rt, device, bytes) && AllocateBlock(rt, device, bytes, out) == CUDA_SUCCESS) return CUDA_SUCCESS;
  return AllocateRange(rt, device, bytes, out);
}

CUdeviceptr Publish(Runtime& rt, DeviceState& device, std::unique_ptr<Range> range) {
  Range& inserted = *range;  // nobody can free it yet
  const CUdeviceptr va = inserted.va;
  Undo give_back(
      [&] { device.builder.Discard(range != nullptr ? std::move(range) : rt.ranges.TakeWhole(va)); });
  rt.ranges.Insert(std::move(range));
  const Status status = device.builder.CatchUp(inserted);
  if (!status.ok()) Log(LogLevel::kWarn, "another GPU cannot reach an allocation: %s", status.what());
  give_back.Dismiss();
  return va;
}

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
  const uint64_t outside[] = {(*range)->host_bytes, (*range)->peer_bytes};
  const uint64_t whole = (*range)->bytes;
  *out = Publish(rt, device, std::move(*range));
  device.counts.Count(bytes, outside[0] > 0);
  Trace::Add(TraceKind::kAllocation, device.tier.device(), start, {*out, whole, outside[0], outside[1]});
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
    RetiredMemory memory;
    memory.range = std::move(range);
    memory.builder = &builder;
    rt.retired.Add(std::move(memory));
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

CUresult FreeBlock(Runtime& rt, const SmallBlock& block) {
  if (const Captures::Quiet quiet(rt.captures); quiet) {
    const Status status = SynchronizeContext(rt.driver, block.context());
    if (!status.ok()) {
      rt.small_blocks.Restore(block);
      return ToCuResult(status);
    }
    SmallBlocks::GiveBack(block);
  } else {
    RetiredMemory memory;
    memory.block = block;
    rt.retired.Add(std::move(memory));
    return CUDA_SUCCESS;
  }
  rt.EndHoldIfAwake();
  MoveBack(rt, block.device());
  return CUDA_SUCCESS;
}

CUresult RetireRange(Runtime& rt, std::unique_ptr<Range> range, CUstream stream) {
  rt.EndHoldIfAwake();
  DeviceState& device = *rt.ExistingDevice(range->device);
  RetiredMemory memory;
  const Status status = MarkPoint(rt, stream, &memory);
  if (!status.ok()) {
    rt.ranges.Insert(std::move(range));
    return ToCuResult(status);
  }
  Trace::Add(TraceKind::kFree, range->device, 0, {range->va, range->bytes});
  memory.range = std::move(range);
  memory.builder = &device.builder;
  rt.retired.Add(std::move(memory));
  MoveBack(rt, device);
  return CUDA_SUCCESS;
}

CUresult RetireBlock(Runtime& rt, const SmallBlock& block, CUstream stream) {
  RetiredMemory memory;
  memory.block = block;
  const Status status = MarkPoint(rt, stream, &memory);
  if (status.ok()) {
    rt.retired.Add(std::move(memory));
  } else {
    rt.small_blocks.Restore(block);
  }
  return ToCuResult(status);
}

}  // namespace gpuroom
