// Stream capture and graphs. A capture collects the operations submitted to
// its streams as nodes of a graph; calls that it forbids are refused with the
// driver's 900-series codes and invalidate it. Launching an instantiated graph
// queues its nodes in an order, chosen by the seed, that the edges allow. All
// under the State's lock.
#pragma once

#include <cuda.h>

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "stream.h"

struct CUgraphNode_st {
  gpuroom::sim::Operation operation;
  std::vector<CUgraphNode> dependencies;
};

struct CUgraph_st {
  std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
  // Memory that was allocated, or freed, by captured operations.
  std::vector<CUdeviceptr> allocated;
  std::vector<CUdeviceptr> freed;
  bool incomplete = false;  // its capture failed: all of that memory ends with it
  CUgraph_st() = default;
  ~CUgraph_st();
  CUgraph_st(const CUgraph_st&) = delete;
  CUgraph_st& operator=(const CUgraph_st&) = delete;
  CUgraphNode Add(gpuroom::sim::Operation operation, std::vector<CUgraphNode> dependencies);
};

struct CUgraphExec_st {
  // A graph's nodes, each with the places of those it waits for.
  struct Step {
    gpuroom::sim::Operation operation;
    std::vector<size_t> after;
  };
  std::vector<Step> steps;
  std::map<int, uint64_t> allocated;  // bytes of its allocations, by device
  unsigned long long flags = 0;
};

namespace gpuroom::sim {

struct Capture {
  uint64_t id = 0;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  uint64_t thread = 0;
  CUstream origin = nullptr;
  CUgraph graph = nullptr;
  bool own_graph = true;  // false: cuStreamBeginCaptureToGraph
  bool invalid = false;
  std::set<CUstream> streams;
};

// For Submit: makes a node of `operation` where the stream is capturing, and
// sets *captured; refuses legacy-stream work that a capture forbids.
CUresult CaptureOperation(CUstream stream, const Operation& operation, bool* captured);

// CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, and the captures concerned are invalid,
// where a capture in progress forbids an unsafe call of this thread.
CUresult RefuseUnsafeCall();

// Whether a blocking stream of the context is capturing.
bool BlockingCapture(CUcontext context);

// For calls that wait for or ask about a stream or a whole context.
CUresult RefuseCapturing(CUstream stream);
CUresult RefuseCapturing(CUcontext context);

// CUDA_ERROR_CAPTURED_EVENT, and its capture is invalid, where the last record was captured.
CUresult RefuseCapturedEvent(CUevent event);

// Event record and wait where a capture takes part; *handled: nothing is left to do.
CUresult CaptureRecord(CUstream stream, CUevent event, bool* handled);
CUresult CaptureWait(CUstream stream, CUevent event, bool* handled);

CUresult BeginCapture(CUstream stream, CUstreamCaptureMode mode, CUgraph graph,
                      std::vector<CUgraphNode> dependencies);
CUresult EndCapture(CUstream stream, CUgraph* graph);
// Ends the capture, if any, that a stream's destruction breaks.
void ForgetStream(CUstream stream);
// Ends all that began in a context, as its end does.
void AbandonCaptures(CUcontext context);

}  // namespace gpuroom::sim
