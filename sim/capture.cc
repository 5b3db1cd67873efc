#include "capture.h"

#include <algorithm>

CUgraphNode CUgraph_st::Add(gpuroom::sim::Operation operation, std::vector<CUgraphNode> dependencies) {
  nodes.push_back(std::make_unique<CUgraphNode_st>());
  nodes.back()->operation = std::move(operation);
  nodes.back()->dependencies = std::move(dependencies);
  return nodes.back().get();
}

namespace gpuroom::sim {
namespace {

std::vector<Capture*>& Captures() {
  static auto* captures = new std::vector<Capture*>;
  return *captures;
}

Capture* FindCapture(uint64_t id) {
  for (Capture* capture : Captures()) {
    if (capture->id == id) return capture;
  }
  return nullptr;
}

// Every node is an ancestor of the origin's last ones, or a stream was not joined.
bool Joined(const Capture& capture) {
  std::set<CUgraphNode> seen(capture.origin->capture_tail.begin(), capture.origin->capture_tail.end());
  std::vector<CUgraphNode> open(seen.begin(), seen.end());
  while (!open.empty()) {
    const CUgraphNode node = open.back();
    open.pop_back();
    for (const CUgraphNode before : node->dependencies) {
      if (seen.insert(before).second) open.push_back(before);
    }
  }
  for (const CUstream stream : capture.streams) {
    for (const CUgraphNode node : stream->capture_tail) {
      if (!seen.contains(node)) return false;
    }
  }
  return true;
}

void Finish(Capture* capture) {
  for (const CUstream stream : capture->streams) {
    stream->capture = nullptr;
    stream->capture_tail.clear();
  }
  std::erase(Captures(), capture);
  delete capture;
}

void DestroyOwnGraph(Capture* capture) {
  if (!capture->own_graph) return;
  capture->graph->incomplete = true;
  delete capture->graph;
  capture->graph = nullptr;
}

bool HasBlocking(const Capture& capture, CUcontext context) {
  return std::any_of(capture.streams.begin(), capture.streams.end(),
                     [&](CUstream stream) { return stream->blocking() && stream->context == context; });
}

void MergeTail(std::vector<CUgraphNode>& tail, const std::vector<CUgraphNode>& more) {
  for (const CUgraphNode node : more) {
    if (std::find(tail.begin(), tail.end(), node) == tail.end()) tail.push_back(node);
  }
}

}  // namespace

bool BlockingCapture(CUcontext context) {
  return std::any_of(Captures().begin(), Captures().end(),
                     [&](const Capture* capture) { return HasBlocking(*capture, context); });
}

CUresult CaptureOperation(CUstream stream, const Operation& operation, bool* captured) {
  if (Captures().empty()) return CUDA_SUCCESS;
  if (Capture* capture = stream->capture) {
    if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream->capture_tail = {capture->graph->Add(operation, stream->capture_tail)};
    *captured = true;
    return CUDA_SUCCESS;
  }
  if (!stream->legacy) return CUDA_SUCCESS;
  CUresult result = CUDA_SUCCESS;
  for (Capture* capture : Captures()) {
    if (!HasBlocking(*capture, stream->context)) continue;
    capture->invalid = true;
    result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
  }
  return result;
}

CUresult RefuseUnsafeCall() {
  if (Captures().empty()) return CUDA_SUCCESS;
  const ThreadState& thread = GetThread();
  if (thread.capture_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
  CUresult result = CUDA_SUCCESS;
  for (Capture* capture : Captures()) {
    if (capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
    const bool own = capture->thread == thread.id;
    const bool everywhere = capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                            thread.capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (!own && !everywhere) continue;
    capture->invalid = true;
    result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return result;
}

CUresult RefuseCapturing(CUstream stream) {
  if (stream->capture != nullptr) {
    stream->capture->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  bool captured = false;  // the legacy stream waits for what is being captured
  return CaptureOperation(stream, Operation{}, &captured);
}

CUresult RefuseCapturing(CUcontext context) {
  CUresult result = CUDA_SUCCESS;
  for (Capture* capture : Captures()) {
    if (capture->origin->context != context) continue;
    capture->invalid = true;
    result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return result;
}

CUresult RefuseCapturedEvent(CUevent event) {
  if (event->capture_id == 0) return CUDA_SUCCESS;
  if (Capture* capture = FindCapture(event->capture_id)) capture->invalid = true;
  return CUDA_ERROR_CAPTURED_EVENT;
}

CUresult CaptureRecord(CUstream stream, CUevent event, bool* handled) {
  if (stream->capture == nullptr) {
    event->capture_id = 0;
    return CUDA_SUCCESS;
  }
  *handled = true;
  if (stream->capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  event->capture_id = stream->capture->id;
  event->capture_tail = stream->capture_tail;
  return CUDA_SUCCESS;
}

CUresult CaptureWait(CUstream stream, CUevent event, bool* handled) {
  if (event->capture_id == 0) {
    if (stream->capture == nullptr || event->mark == nullptr) return CUDA_SUCCESS;
    *handled = true;
    stream->capture->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  *handled = true;
  Capture* capture = FindCapture(event->capture_id);
  if (capture == nullptr) return CUDA_ERROR_CAPTURED_EVENT;
  if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (stream->legacy) {
    capture->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
  }
  if (stream->capture != nullptr && stream->capture != capture) {
    stream->capture->invalid = true;
    capture->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_MERGE;
  }
  stream->capture = capture;
  capture->streams.insert(stream);
  MergeTail(stream->capture_tail, event->capture_tail);
  return CUDA_SUCCESS;
}

CUresult BeginCapture(CUstream stream, CUstreamCaptureMode mode, CUgraph graph,
                      std::vector<CUgraphNode> dependencies) {
  if (mode > CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
  if (stream->legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (stream->capture != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  auto* capture = new Capture;
  capture->id = GetState().NextId();
  capture->mode = mode;
  capture->thread = GetThread().id;
  capture->origin = stream;
  capture->own_graph = graph == nullptr;
  capture->graph = graph != nullptr ? graph : new CUgraph_st;
  capture->streams.insert(stream);
  stream->capture = capture;
  stream->capture_tail = std::move(dependencies);
  Captures().push_back(capture);
  return CUDA_SUCCESS;
}

CUresult EndCapture(CUstream stream, CUgraph* graph) {
  Capture* capture = stream->capture;
  if (capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  if (graph != nullptr) *graph = nullptr;
  if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != GetThread().id) {
    DestroyOwnGraph(capture);  // the driver ends it all the same
    Finish(capture);
    return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  }
  CUresult result = CUDA_SUCCESS;
  if (capture->origin != stream) {
    capture->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  }
  if (capture->invalid) {
    result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  } else if (!Joined(*capture)) {
    result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  }
  if (result != CUDA_SUCCESS) {
    DestroyOwnGraph(capture);
  } else {
    GetState().graphs.insert(capture->graph);
    if (graph != nullptr) *graph = capture->graph;
  }
  Finish(capture);
  return result;
}

void ForgetStream(CUstream stream) {
  Capture* capture = stream->capture;
  if (capture == nullptr) return;
  if (capture->origin == stream) {
    DestroyOwnGraph(capture);
    Finish(capture);
    return;
  }
  capture->invalid = true;
  capture->streams.erase(stream);
  stream->capture = nullptr;
}

void AbandonCaptures(CUcontext context) {
  const std::vector<Capture*> captures = Captures();
  for (Capture* capture : captures) {
    if (capture->origin->context != context) continue;
    DestroyOwnGraph(capture);
    Finish(capture);
  }
}

}  // namespace gpuroom::sim
