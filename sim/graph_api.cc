// Graphs: made by captures (or empty), instantiated, launched.
#include <algorithm>

#include "alloc.h"
#include "capture.h"
#include "entry.h"
#include "pool.h"

namespace gpuroom::sim {
namespace {

CUgraphExec Instantiate(const CUgraph_st& graph) {
  auto* exec = new CUgraphExec_st;
  std::map<CUgraphNode, size_t> places;
  for (const auto& node : graph.nodes) {
    CUgraphExec_st::Step step{node->operation, {}};
    for (const CUgraphNode before : node->dependencies) step.after.push_back(places.at(before));
    places[node.get()] = exec->steps.size();
    exec->steps.push_back(std::move(step));
  }
  for (const CUdeviceptr address : graph.allocated) {
    const Region* region = GetState().va.Find(address);
    if (region != nullptr) exec->allocated[region->device] += region->bytes;
  }
  GetState().graph_execs.insert(exec);
  return exec;
}

CUresult InstantiateInto(State& state, CUgraphExec* out, CUgraph graph) {
  if (out == nullptr || !state.graphs.contains(graph)) return CUDA_ERROR_INVALID_VALUE;
  *out = Instantiate(*graph);
  return CUDA_SUCCESS;
}

// An order that the edges allow, chosen by the seed.
std::vector<size_t> PickOrder(const CUgraphExec_st& exec) {
  std::vector<size_t> order;
  std::vector<bool> done(exec.steps.size());
  std::vector<size_t> ready;
  while (order.size() < exec.steps.size()) {
    ready.clear();
    for (size_t i = 0; i < exec.steps.size(); ++i) {
      const auto& after = exec.steps[i].after;
      if (!done[i] && std::all_of(after.begin(), after.end(), [&](size_t j) { return done[j]; }))
        ready.push_back(i);
    }
    const size_t pick = ready[GetState().random() % ready.size()];
    done[pick] = true;
    order.push_back(pick);
  }
  return order;
}

CUresult LaunchGraph(CUgraphExec exec, CUstream stream) {
  for (const auto& [device, bytes] : exec->allocated) NoteGraphLaunch(device, bytes);
  for (const size_t i : PickOrder(*exec)) {
    const CUresult result = Submit(stream, exec->steps[i].operation);
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

template <typename Accept>
CUresult ListNodes(const CUgraph_st& graph, CUgraphNode* nodes, size_t* count, Accept accept) {
  if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
  size_t found = 0;
  for (const auto& node : graph.nodes) {
    if (!accept(*node)) continue;
    if (nodes != nullptr && found < *count) nodes[found] = node.get();
    ++found;
  }
  if (nodes != nullptr) {
    for (size_t i = found; i < *count; ++i) nodes[i] = nullptr;
    found = std::min(found, *count);
  }
  *count = found;
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace gpuroom::sim

CUgraph_st::~CUgraph_st() {
  auto& state = gpuroom::sim::GetState();
  for (const CUdeviceptr address : allocated) {
    const bool over = incomplete || std::find(freed.begin(), freed.end(), address) != freed.end();
    auto* region = over ? state.va.Find(address) : nullptr;
    if (region != nullptr && region->start == address && region->pool != nullptr && !region->freed) {
      gpuroom::sim::ReleaseToPool(region);
    }
  }
  if (!allocated.empty()) gpuroom::sim::TrimPools();
}

namespace sim = gpuroom::sim;

SIM_API cuGraphCreate(CUgraph* out, unsigned int flags) {
  SIM_ENTER(cuGraphCreate, kInit);
  if (out == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  *out = new CUgraph_st;
  guard.state().graphs.insert(*out);
  return CUDA_SUCCESS;
}

SIM_API cuGraphDestroy(CUgraph graph) {
  SIM_ENTER(cuGraphDestroy, kInit);
  if (guard.state().graphs.erase(graph) == 0) return CUDA_ERROR_INVALID_VALUE;
  delete graph;
  return CUDA_SUCCESS;
}

SIM_API cuGraphInstantiate(CUgraphExec* out, CUgraph graph, CUgraphNode*, char*, size_t) {
  SIM_ENTER(cuGraphInstantiate, kContext);
  return sim::InstantiateInto(guard.state(), out, graph);
}

SIM_API cuGraphInstantiate_v2(CUgraphExec* out, CUgraph graph, CUgraphNode*, char*, size_t) {
  SIM_ENTER(cuGraphInstantiate, kContext);
  return sim::InstantiateInto(guard.state(), out, graph);
}

SIM_API cuGraphInstantiateWithFlags(CUgraphExec* out, CUgraph graph, unsigned long long flags) {
  SIM_ENTER(cuGraphInstantiateWithFlags, kContext);
  const CUresult result = sim::InstantiateInto(guard.state(), out, graph);
  if (result == CUDA_SUCCESS) (*out)->flags = flags;
  return result;
}

SIM_API cuGraphInstantiateWithParams(CUgraphExec* out, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS* params) {
  SIM_ENTER(cuGraphInstantiateWithParams, kContext);
  if (params == nullptr) return CUDA_ERROR_INVALID_VALUE;
  params->result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS;
  return sim::InstantiateInto(guard.state(), out, graph);
}

SIM_API cuGraphUpload(CUgraphExec exec, CUstream) {
  SIM_ENTER(cuGraphUpload, kContext);
  return guard.state().graph_execs.contains(exec) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

SIM_API cuGraphLaunch(CUgraphExec exec, CUstream handle) {
  SIM_ENTER(cuGraphLaunch, kContext);
  if (!guard.state().graph_execs.contains(exec)) return CUDA_ERROR_INVALID_VALUE;
  CUstream stream = nullptr;
  const CUresult result = sim::ResolveStream(handle, &stream);
  return result == CUDA_SUCCESS ? sim::LaunchGraph(exec, stream) : result;
}

SIM_API cuGraphExecDestroy(CUgraphExec exec) {
  SIM_ENTER(cuGraphExecDestroy, kInit);
  if (guard.state().graph_execs.erase(exec) == 0) return CUDA_ERROR_INVALID_VALUE;
  delete exec;  // what was launched has its own copies
  return CUDA_SUCCESS;
}

SIM_API cuGraphExecGetFlags(CUgraphExec exec, cuuint64_t* flags) {
  SIM_ENTER(cuGraphExecGetFlags, kInit);
  if (flags == nullptr || !guard.state().graph_execs.contains(exec)) return CUDA_ERROR_INVALID_VALUE;
  *flags = exec->flags;
  return CUDA_SUCCESS;
}

SIM_API cuGraphGetNodes(CUgraph graph, CUgraphNode* nodes, size_t* count) {
  SIM_ENTER(cuGraphGetNodes, kInit);
  if (!guard.state().graphs.contains(graph)) return CUDA_ERROR_INVALID_VALUE;
  return sim::ListNodes(*graph, nodes, count, [](const CUgraphNode_st&) { return true; });
}

SIM_API cuGraphGetRootNodes(CUgraph graph, CUgraphNode* nodes, size_t* count) {
  SIM_ENTER(cuGraphGetRootNodes, kInit);
  if (!guard.state().graphs.contains(graph)) return CUDA_ERROR_INVALID_VALUE;
  return sim::ListNodes(*graph, nodes, count,
                        [](const CUgraphNode_st& node) { return node.dependencies.empty(); });
}

SIM_API cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType* type) {
  SIM_ENTER(cuGraphNodeGetType, kInit);
  if (node == nullptr || type == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *type = node->operation.kind;
  return CUDA_SUCCESS;
}
