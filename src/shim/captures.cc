#include "shim/captures.h"

#include <algorithm>
#include <chrono>

#include "shim/real.h"
#include "shim/runtime.h"

namespace headroom::shim {

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

namespace {

// Noted before it begins, so that another thread's free cannot slip in between.
template <typename Native>
CUresult Begin(CUstream stream, Native native) {
  Entry rt;
  if (!rt) return native();
  rt->captures.Begin(stream);
  const CUresult result = native();
  if (result != CUDA_SUCCESS) rt->captures.End(stream);
  return result;
}

// A capture that failed has ended as well; one that this call may not end goes on.
CUresult Ended(CUstream stream, CUresult result) {
  Entry rt;
  bool capturing = false;
  if (rt && result != CUDA_SUCCESS) rt->captures.Ask(stream, &capturing);
  if (rt && !capturing) rt->captures.End(stream);
  return result;
}

}  // namespace
}  // namespace headroom::shim

using namespace headroom::shim;

extern "C" {

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  return Begin(stream, [&] { return Real().cuStreamBeginCapture_v2(stream, mode); });
}

CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode) {
  return Begin(PerThread(stream), [&] { return Real().cuStreamBeginCapture_v2_ptsz(stream, mode); });
}

CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph, const CUgraphNode* nodes,
                                     const CUgraphEdgeData* edges, size_t count, CUstreamCaptureMode mode) {
  return Begin(stream,
               [&] { return Real().cuStreamBeginCaptureToGraph(stream, graph, nodes, edges, count, mode); });
}

CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph, const CUgraphNode* nodes,
                                          const CUgraphEdgeData* edges, size_t count,
                                          CUstreamCaptureMode mode) {
  return Begin(PerThread(stream), [&] {
    return Real().cuStreamBeginCaptureToGraph_ptsz(stream, graph, nodes, edges, count, mode);
  });
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  return Ended(stream, Real().cuStreamEndCapture(stream, graph));
}

CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph* graph) {
  return Ended(PerThread(stream), Real().cuStreamEndCapture_ptsz(stream, graph));
}

CUresult cuStreamDestroy_v2(CUstream stream) {
  const CUresult result = Real().cuStreamDestroy_v2(stream);
  return result == CUDA_SUCCESS ? Ended(stream, result) : result;
}

}  // extern "C"
