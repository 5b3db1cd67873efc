// Captures with allocations, frees and attempts to migrate inside, and the graphs they leave.
#include <algorithm>

#include "walker.h"

namespace gpuroom::soak {

using shim_test::Cu;

namespace {

constexpr uint64_t kLarge = 4 * kMiB;  // a range: small memory may not be had during a capture
constexpr size_t kMostGraphs = 12;

}  // namespace

Outcome Walker::Capture() {
  if (graphs_.size() >= kMostGraphs) DestroyGraph(Random(graphs_.size()));
  Graph graph;
  graph.stream = Random(streams_.size());
  const CUstream stream = streams_[graph.stream];
  // A global capture forbids the other threads' allocations.
  const CUstreamCaptureMode mode = shared_.settings.threads == 1 && Chance(40) ? CU_STREAM_CAPTURE_MODE_GLOBAL
                                   : Chance(50) ? CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
                                                : CU_STREAM_CAPTURE_MODE_RELAXED;
  if (!Ok(Cu().StreamBeginCapture(stream, mode), "cuStreamBeginCapture")) return Outcome::kFailed;
  capturing_ = true;
  const bool own_memory = CaptureSteps(&graph);
  CUgraph captured = EndCapture(stream);
  capturing_ = false;
  if (captured == nullptr) return Outcome::kFailed;
  const bool made = Ok(Cu().GraphInstantiate(&graph.exec, captured, 0), "cuGraphInstantiate");
  if (made && own_memory) {
    graph.captured = captured;
  } else {
    Insist([&] { return Cu().GraphDestroy(captured); }, "cuGraphDestroy");
  }
  if (!made) return Outcome::kFailed;
  for (const GraphWrite& write : graph.writes) ++write.block->graphs;
  graphs_.push_back(std::move(graph));
  return Outcome::kDone;
}

// True if memory was allocated as a node of the graph.
bool Walker::CaptureSteps(Graph* graph) {
  bool own_memory = false;
  for (uint64_t steps = 1 + Random(8); steps > 0; --steps) {
    switch (Random(8)) {
      case 0: AllocLarge(); break;
      case 1: CaptureFree(*graph); break;
      case 2: CaptureMigrate(); break;
      case 3: own_memory = CaptureAllocAsync(streams_[graph->stream]) || own_memory; break;
      default: CaptureWrite(graph); break;
    }
  }
  return own_memory;
}

void Walker::CaptureWrite(Graph* graph) {
  Block* block = PickIf([&](const Block& any) { return any.stream == graph->stream; });
  if (block == nullptr) return;
  const size_t index = Random(block->cells.size());
  const Cell& cell = block->cells[index];
  if (cell.bytes == 0) return;
  const unsigned how = static_cast<unsigned>(Random(2));
  Cell written = cell;  // the block's own is written when the graph is launched
  if (WriteCell(*block, written, NewPattern(how), how))
    graph->writes.push_back({block, index, written.pattern});
}

// A range that no graph needs; what runs may still use it. The driver's own memory, which a
// failure may have led to, cannot be freed now.
void Walker::CaptureFree(const Graph& graph) {
  const auto is_range = [this](const Block& block) {
    gpuroom_placement place = {};
    return shared_.library.describe != nullptr &&
           shared_.library.describe(block.p, &place, sizeof place) == 0;
  };
  Block* block = PickIf([&](const Block& any) {
    return any.origin == Origin::kAlloc && any.bytes >= kLarge && any.graphs == 0 && is_range(any) &&
           std::none_of(graph.writes.begin(), graph.writes.end(),
                        [&](const GraphWrite& write) { return write.block == &any; });
  });
  if (block != nullptr) FreeBlock(block);
}

void Walker::CaptureMigrate() {
  Block* block = PickIf([](const Block& any) { return any.bytes >= kLarge; });
  if (block == nullptr || shared_.library.range_migrate == nullptr) return;
  const int result = shared_.library.range_migrate(block->p, 0, GPUROOM_TIER_HOST);
  if (result != GPUROOM_BUSY && result != GPUROOM_UNSUPPORTED) {
    Fail("a move during a capture gave " + std::to_string(result));
  }
}

// True if the memory is a node of the graph. Where a failure hid the capture it is not.
bool Walker::CaptureAllocAsync(CUstream stream) {
  CUdeviceptr p = 0;
  const uint64_t bytes = 8 + Random(kMiB);
  if (Full(Cu().MemAllocAsync(&p, bytes, stream), "cuMemAllocAsync") != Outcome::kDone) return false;
  gpuroom_placement place = {};
  if (shared_.library.describe != nullptr && shared_.library.describe(p, &place, sizeof place) == 0) {
    if (!MayFail()) Fail("what a capture allocates is none of the graph's");
    Add(p, bytes, Origin::kAlloc, Random(streams_.size()));
    return false;
  }
  Ok(Launch(fill_, {p, std::min(bytes / 8, kCellBytes), 1}, stream), "cuLaunchKernel");
  for (int tries = 0; tries < 10000; ++tries) {
    const CUresult result = Cu().MemFreeAsync(p, stream);
    if (Ok(result, "cuMemFreeAsync") || result == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED) return true;
  }
  Fail("cuMemFreeAsync never succeeds");
}

// Null: the capture was invalidated, which only an injected failure may do.
CUgraph Walker::EndCapture(CUstream stream) {
  for (int tries = 0; tries < 10000; ++tries) {
    CUgraph graph = nullptr;
    const CUresult result = Cu().StreamEndCapture(stream, &graph);
    if (result == CUDA_SUCCESS) return graph;
    if (result == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED && MayFail()) return nullptr;
    Ok(result, "cuStreamEndCapture");
  }
  Fail("a capture never ends");
}

Outcome Walker::Replay() {
  if (graphs_.empty()) return Outcome::kIdle;
  const Graph& graph = graphs_[Random(graphs_.size())];
  if (!Ok(Cu().GraphLaunch(graph.exec, streams_[graph.stream]), "cuGraphLaunch")) return Outcome::kFailed;
  for (const GraphWrite& write : graph.writes) Trace("replay", *write.block);
  for (const GraphWrite& write : graph.writes) write.block->cells[write.cell].pattern = write.pattern;
  return Outcome::kDone;
}

void Walker::DestroyGraph(size_t index) {
  Graph& graph = graphs_[index];
  if (graph.captured != nullptr) Synchronize(graph.stream);  // its memory goes with it
  Insist([&] { return Cu().GraphExecDestroy(graph.exec); }, "cuGraphExecDestroy");
  if (graph.captured != nullptr) Insist([&] { return Cu().GraphDestroy(graph.captured); }, "cuGraphDestroy");
  for (const GraphWrite& write : graph.writes) --write.block->graphs;
  graphs_.erase(graphs_.begin() + static_cast<std::ptrdiff_t>(index));
}

void Walker::DropGraphsOf(const Block* block) {
  for (size_t i = graphs_.size(); i > 0 && block->graphs > 0; --i) {
    const std::vector<GraphWrite>& writes = graphs_[i - 1].writes;
    if (std::any_of(writes.begin(), writes.end(), [&](const auto& write) { return write.block == block; })) {
      DestroyGraph(i - 1);
    }
  }
}

Outcome Walker::DropGraph() {
  if (graphs_.empty()) return Outcome::kIdle;
  DestroyGraph(Random(graphs_.size()));
  return Outcome::kDone;
}

}  // namespace gpuroom::soak
