// Events: marks in streams.
#include "capture.h"
#include "entry.h"
#include "pool.h"
#include "stream.h"

namespace gpuroom::sim {
namespace {

CUresult Record(Guard& guard, CUevent event, CUstream handle) {
  CUstream stream = nullptr;
  CUresult result = ResolveStream(handle, &stream);
  if (result != CUDA_SUCCESS) return result;
  if (!guard.state().events.contains(event)) return CUDA_ERROR_INVALID_HANDLE;
  if (event->context != stream->context) return CUDA_ERROR_INVALID_HANDLE;
  bool handled = false;
  result = CaptureRecord(stream, event, &handled);
  if (result != CUDA_SUCCESS || handled) return result;
  auto mark = std::make_shared<Mark>();
  Operation operation;
  operation.kind = CU_GRAPH_NODE_TYPE_EVENT_RECORD;
  operation.record = mark;
  result = Submit(stream, std::move(operation));
  if (result == CUDA_SUCCESS) event->mark = std::move(mark);
  return result;
}

CUresult Elapsed(State& state, float* milliseconds, CUevent start, CUevent end) {
  if (milliseconds == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (const CUevent event : {start, end}) {
    if (!state.events.contains(event)) return CUDA_ERROR_INVALID_HANDLE;
    if ((event->flags & CU_EVENT_DISABLE_TIMING) != 0 || event->mark == nullptr)
      return CUDA_ERROR_INVALID_HANDLE;
  }
  if (!start->mark->done || !end->mark->done) return CUDA_ERROR_NOT_READY;
  *milliseconds = std::chrono::duration<float, std::milli>(end->mark->when - start->mark->when).count();
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;

SIM_API cuEventCreate(CUevent* out, unsigned int flags) {
  SIM_ENTER(cuEventCreate, kContext);
  constexpr unsigned kKnown = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
  if (out == nullptr || (flags & ~kKnown) != 0) return CUDA_ERROR_INVALID_VALUE;
  if ((flags & CU_EVENT_INTERPROCESS) != 0 && (flags & CU_EVENT_DISABLE_TIMING) == 0)
    return CUDA_ERROR_INVALID_VALUE;
  *out = new CUevent_st;
  (*out)->context = &guard.context();
  (*out)->flags = flags;
  guard.state().events.insert(*out);
  return CUDA_SUCCESS;
}

SIM_API cuEventDestroy_v2(CUevent event) {
  SIM_ENTER(cuEventDestroy, kInit);
  if (guard.state().events.erase(event) == 0) return CUDA_ERROR_INVALID_HANDLE;
  delete event;  // its mark lives on in the queue
  return CUDA_SUCCESS;
}

SIM_API cuEventRecord(CUevent event, CUstream stream) {
  SIM_ENTER(cuEventRecord, kContext);
  return sim::Record(guard, event, stream);
}

SIM_API cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags) {
  SIM_ENTER(cuEventRecordWithFlags, kContext);
  if ((flags & ~CU_EVENT_RECORD_EXTERNAL) != 0) return CUDA_ERROR_INVALID_VALUE;
  return sim::Record(guard, event, stream);
}

SIM_API cuEventQuery(CUevent event) {
  SIM_ENTER(cuEventQuery, kContext);
  if (!guard.state().events.contains(event)) return CUDA_ERROR_INVALID_HANDLE;
  CUresult refused = sim::RefuseCapturedEvent(event);
  if (refused == CUDA_SUCCESS) refused = sim::RefuseUnsafeCall();
  if (refused != CUDA_SUCCESS) return refused;
  if (event->mark == nullptr || event->mark->done) return CUDA_SUCCESS;
  sim::StepOne(guard.lock());
  return guard.context().sticky != CUDA_SUCCESS ? guard.context().sticky : CUDA_ERROR_NOT_READY;
}

SIM_API cuEventSynchronize(CUevent event) {
  SIM_ENTER(cuEventSynchronize, kContext);
  if (!guard.state().events.contains(event)) return CUDA_ERROR_INVALID_HANDLE;
  CUresult refused = sim::RefuseCapturedEvent(event);
  if (refused == CUDA_SUCCESS) refused = sim::RefuseUnsafeCall();
  if (refused != CUDA_SUCCESS) return refused;
  const sim::MarkPtr mark = event->mark;
  if (mark != nullptr) sim::WaitForMark(guard.lock(), mark);
  sim::TrimPools();
  return guard.context().sticky;
}

SIM_API cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  SIM_ENTER(cuEventElapsedTime, kContext);
  return sim::Elapsed(guard.state(), milliseconds, start, end);
}

SIM_API cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
  SIM_ENTER(cuEventElapsedTime, kContext);
  return sim::Elapsed(guard.state(), milliseconds, start, end);
}
