// Captures of streams into graphs, as they begin and end.
#include "runtime/captures.h"

#include "runtime/runtime.h"
#include "shim/hooks.h"
#include "shim/real.h"

namespace gpuroom {
namespace {

// Noted before it begins, so that another thread's free cannot slip in between. A hold is that of what
// would be captured: a wake cannot be while a capture is in progress.
template <typename Native>
CUresult Begin(CUstream stream, Native native) {
  Entry rt = Entry::OfSubmission();
  if (!rt) return native();
  if (rt.hold() == Hold::kFail) return CUDA_ERROR_ILLEGAL_STATE;
  if (rt.hold() == Hold::kLost) return CUDA_ERROR_OUT_OF_MEMORY;
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
}  // namespace gpuroom

namespace gpuroom::hooks {

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

}  // namespace gpuroom::hooks
