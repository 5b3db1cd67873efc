// Streams, host functions, and capture's entry points.
#include "capture.h"
#include "entry.h"
#include "pool.h"
#include "stream.h"

namespace gpuroom::sim {
namespace {

CUresult Create(Guard& guard, CUstream* out, unsigned flags, int priority) {
  if (out == nullptr || (flags & ~CU_STREAM_NON_BLOCKING) != 0) return CUDA_ERROR_INVALID_VALUE;
  *out = NewStream(&guard.context(), flags, priority < -5 ? -5 : priority > 0 ? 0 : priority);
  return CUDA_SUCCESS;
}

CUstreamCaptureStatus Status(CUstream stream) {
  if (stream->capture == nullptr) return CU_STREAM_CAPTURE_STATUS_NONE;
  return stream->capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

// Asking about the legacy stream while a blocking stream captures is refused,
// and the capture survives it.
CUresult LegacyDuringCapture(CUstream stream) {
  return stream->legacy && BlockingCapture(stream->context) ? CUDA_ERROR_STREAM_CAPTURE_IMPLICIT
                                                            : CUDA_SUCCESS;
}

struct CaptureInfo {
  CUstreamCaptureStatus* status;
  cuuint64_t* id = nullptr;
  CUgraph* graph = nullptr;
  const CUgraphNode** dependencies = nullptr;
  const CUgraphEdgeData** edges = nullptr;
  size_t* count = nullptr;
};

CUresult GetCaptureInfo(CUstream handle, const CaptureInfo& info) {
  CUstream stream = nullptr;
  CUresult result = ResolveStream(handle, &stream);
  if (result != CUDA_SUCCESS) return result;
  if (info.status == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if ((result = LegacyDuringCapture(stream)) != CUDA_SUCCESS) return result;
  *info.status = Status(stream);
  if (*info.status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_SUCCESS;
  if (info.id != nullptr) *info.id = stream->capture->id;
  if (info.graph != nullptr) *info.graph = stream->capture->graph;
  if (info.dependencies != nullptr) *info.dependencies = stream->capture_tail.data();
  if (info.edges != nullptr) *info.edges = nullptr;
  if (info.count != nullptr) *info.count = stream->capture_tail.size();
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;

#define SIM_RESOLVE(handle)                                      \
  CUstream stream = nullptr;                                     \
  const CUresult resolved = sim::ResolveStream(handle, &stream); \
  if (resolved != CUDA_SUCCESS) return resolved

SIM_API cuStreamCreate(CUstream* out, unsigned int flags) {
  SIM_ENTER(cuStreamCreate, kContext);
  return sim::Create(guard, out, flags, 0);
}

SIM_API cuStreamCreateWithPriority(CUstream* out, unsigned int flags, int priority) {
  SIM_ENTER(cuStreamCreateWithPriority, kContext);
  return sim::Create(guard, out, flags, priority);
}

SIM_API cuStreamDestroy_v2(CUstream handle) {
  SIM_ENTER(cuStreamDestroy, kInit);
  if (!guard.state().streams.contains(handle)) return CUDA_ERROR_INVALID_HANDLE;
  sim::ForgetStream(handle);
  sim::DestroyStream(handle);
  return CUDA_SUCCESS;
}

SIM_API cuStreamSynchronize(CUstream handle) {
  SIM_ENTER(cuStreamSynchronize, kContext);
  SIM_RESOLVE(handle);
  CUresult refused = sim::RefuseCapturing(stream);
  if (refused == CUDA_SUCCESS) refused = sim::RefuseUnsafeCall();
  if (refused != CUDA_SUCCESS) return refused;
  const CUresult result = sim::DrainStream(guard.lock(), stream);
  sim::TrimPools();
  return result;
}

// The first question about pending work is answered "not ready"; each one lets
// some work run, so that a program that polls gets on.
SIM_API cuStreamQuery(CUstream handle) {
  SIM_ENTER(cuStreamQuery, kContext);
  SIM_RESOLVE(handle);
  CUresult refused = sim::RefuseCapturing(stream);
  if (refused == CUDA_SUCCESS) refused = sim::RefuseUnsafeCall();
  if (refused != CUDA_SUCCESS) return refused;
  const bool pending = !stream->queue.empty();
  if (pending) sim::StepOne(guard.lock());
  if (guard.context().sticky != CUDA_SUCCESS) return guard.context().sticky;
  return pending ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

SIM_API cuStreamGetCtx(CUstream handle, CUcontext* context) {
  SIM_ENTER(cuStreamGetCtx, kContext);
  SIM_RESOLVE(handle);
  if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *context = stream->context;
  return CUDA_SUCCESS;
}

SIM_API cuStreamGetDevice(CUstream handle, CUdevice* device) {
  SIM_ENTER(cuStreamGetDevice, kContext);
  SIM_RESOLVE(handle);
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *device = stream->context->device;
  return CUDA_SUCCESS;
}

SIM_API cuStreamGetFlags(CUstream handle, unsigned int* flags) {
  SIM_ENTER(cuStreamGetFlags, kContext);
  SIM_RESOLVE(handle);
  if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *flags = stream->flags;
  return CUDA_SUCCESS;
}

SIM_API cuStreamGetPriority(CUstream handle, int* priority) {
  SIM_ENTER(cuStreamGetPriority, kContext);
  SIM_RESOLVE(handle);
  if (priority == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *priority = stream->priority;
  return CUDA_SUCCESS;
}

SIM_API cuStreamGetId(CUstream handle, unsigned long long* id) {
  SIM_ENTER(cuStreamGetId, kContext);
  SIM_RESOLVE(handle);
  if (id == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *id = stream->id;
  return CUDA_SUCCESS;
}

SIM_API cuStreamWaitEvent(CUstream handle, CUevent event, unsigned int) {
  SIM_ENTER(cuStreamWaitEvent, kContext);
  SIM_RESOLVE(handle);
  if (!guard.state().events.contains(event)) return CUDA_ERROR_INVALID_HANDLE;
  bool handled = false;
  const CUresult result = sim::CaptureWait(stream, event, &handled);
  if (result != CUDA_SUCCESS || handled) return result;
  if (event->mark == nullptr || event->mark->done) return CUDA_SUCCESS;
  sim::Operation operation;
  operation.kind = CU_GRAPH_NODE_TYPE_WAIT_EVENT;
  operation.wait = event->mark;
  return sim::Submit(stream, std::move(operation));
}

SIM_API cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data) {
  SIM_ENTER(cuLaunchHostFunc, kContext);
  SIM_RESOLVE(handle);
  if (function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  sim::Operation operation;
  operation.kind = CU_GRAPH_NODE_TYPE_HOST;
  operation.host = [function, data] { function(data); };
  return sim::Submit(stream, std::move(operation));
}

SIM_API cuStreamAddCallback(CUstream handle, CUstreamCallback callback, void* data, unsigned int flags) {
  SIM_ENTER(cuStreamAddCallback, kContext);
  SIM_RESOLVE(handle);
  if (callback == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (stream->capture != nullptr) {
    stream->capture->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  sim::Operation operation;
  operation.kind = CU_GRAPH_NODE_TYPE_HOST;
  operation.host = [callback, handle, data] { callback(handle, CUDA_SUCCESS, data); };
  return sim::Submit(stream, std::move(operation));
}

SIM_API cuStreamAttachMemAsync(CUstream handle, CUdeviceptr address, size_t, unsigned int) {
  SIM_ENTER(cuStreamAttachMemAsync, kContext);
  SIM_RESOLVE(handle);
  const auto* region = guard.state().va.Find(address);
  return region != nullptr && region->kind == sim::RegionKind::kManaged ? CUDA_SUCCESS
                                                                        : CUDA_ERROR_INVALID_VALUE;
}

SIM_API cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
  SIM_ENTER(cuStreamIsCapturing, kContext);
  return sim::GetCaptureInfo(handle, {status});
}

SIM_API cuStreamGetCaptureInfo_v2(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id,
                                  CUgraph* graph, const CUgraphNode** dependencies, size_t* count) {
  SIM_ENTER(cuStreamGetCaptureInfo, kContext);
  return sim::GetCaptureInfo(handle, {status, id, graph, dependencies, nullptr, count});
}

SIM_API cuStreamGetCaptureInfo_v3(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id,
                                  CUgraph* graph, const CUgraphNode** dependencies,
                                  const CUgraphEdgeData** edges, size_t* count) {
  SIM_ENTER(cuStreamGetCaptureInfo, kContext);
  return sim::GetCaptureInfo(handle, {status, id, graph, dependencies, edges, count});
}

SIM_API cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode) {
  SIM_ENTER(cuStreamBeginCapture, kContext);
  SIM_RESOLVE(handle);
  return sim::BeginCapture(stream, mode, nullptr, {});
}

SIM_API cuStreamBeginCaptureToGraph(CUstream handle, CUgraph graph, const CUgraphNode* dependencies,
                                    const CUgraphEdgeData*, size_t count, CUstreamCaptureMode mode) {
  SIM_ENTER(cuStreamBeginCaptureToGraph, kContext);
  SIM_RESOLVE(handle);
  if (!guard.state().graphs.contains(graph)) return CUDA_ERROR_INVALID_VALUE;
  return sim::BeginCapture(stream, mode, graph, {dependencies, dependencies + count});
}

SIM_API cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  SIM_ENTER(cuStreamEndCapture, kContext);
  SIM_RESOLVE(handle);
  return sim::EndCapture(stream, graph);
}

SIM_API cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
  SIM_ENTER(cuThreadExchangeStreamCaptureMode, kInit);
  if (mode == nullptr || *mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
  std::swap(*mode, guard.thread().capture_mode);
  return CUDA_SUCCESS;
}
