// Questions about graphs: their edges, and the memory that their allocations take.
#include <algorithm>

#include "capture.h"
#include "entry.h"
#include "pool.h"

namespace gpuroom::sim {
namespace {

struct Edge {
  CUgraphNode from;
  CUgraphNode to;
};
using Edges = std::vector<Edge>;

Edges EdgesOf(const CUgraph_st& graph) {
  Edges edges;
  for (const auto& node : graph.nodes) {
    for (const CUgraphNode before : node->dependencies) edges.push_back({before, node.get()});
  }
  return edges;
}

// The edges of the graph that `node` is in; false: of none that lives.
bool EdgesAround(const State& state, CUgraphNode node, Edges* edges) {
  for (const CUgraph graph : state.graphs) {
    const auto is_node = [node](const auto& other) { return other.get() == node; };
    if (std::none_of(graph->nodes.begin(), graph->nodes.end(), is_node)) continue;
    *edges = EdgesOf(*graph);
    return true;
  }
  return false;
}

// Where the caller has room, `give(i, edge)` for each that fits and `clear(i)` for the room beyond; else how
// many there are.
template <typename Give, typename Clear>
CUresult List(const Edges& edges, bool room, size_t* count, Give give, Clear clear) {
  if (room) {
    for (size_t i = 0; i < *count; ++i) {
      if (i < edges.size()) {
        give(i, edges[i]);
      } else {
        clear(i);
      }
    }
  }
  *count = room ? std::min(*count, edges.size()) : edges.size();
  return CUDA_SUCCESS;
}

// No edge here carries data.
void ClearData(CUgraphEdgeData* data, size_t i) {
  if (data != nullptr) data[i] = {};
}

CUresult ListEdges(State& state, CUgraph graph, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data,
                   size_t* count) {
  if (count == nullptr || !state.graphs.contains(graph)) return CUDA_ERROR_INVALID_VALUE;
  if ((from == nullptr) != (to == nullptr) || (data != nullptr && from == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  const auto put = [&](size_t i, Edge edge) {
    from[i] = edge.from;
    to[i] = edge.to;
    ClearData(data, i);
  };
  return List(EdgesOf(*graph), from != nullptr, count, put, [&](size_t i) { put(i, {}); });
}

// The nodes at the other ends of those edges that have `node` at their `here` end.
CUresult ListNeighbours(State& state, CUgraphNode node, CUgraphNode Edge::*here, CUgraphNode Edge::*there,
                        CUgraphNode* nodes, CUgraphEdgeData* data, size_t* count) {
  Edges edges;
  if (count == nullptr || !EdgesAround(state, node, &edges)) return CUDA_ERROR_INVALID_VALUE;
  if (data != nullptr && nodes == nullptr) return CUDA_ERROR_INVALID_VALUE;
  std::erase_if(edges, [&](const Edge& edge) { return edge.*here != node; });
  const auto put = [&](size_t i, Edge edge) {
    nodes[i] = edge.*there;
    ClearData(data, i);
  };
  return List(edges, nodes != nullptr, count, put, [&](size_t i) { put(i, {}); });
}

bool IsHighMark(CUgraphMem_attribute attribute) {
  return attribute == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH || attribute == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH;
}

bool IsGraphMemory(CUgraphMem_attribute attribute) {
  return attribute == CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT ||
         attribute == CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT || IsHighMark(attribute);
}

}  // namespace

void NoteGraphLaunch(int device, uint64_t bytes) {
  constexpr uint64_t kUnit = uint64_t{32} << 20;
  Device& owner = GetState().devices[static_cast<size_t>(device)];
  owner.graph_bytes = std::max(owner.graph_bytes, (bytes + kUnit - 1) / kUnit * kUnit);
  owner.graph_bytes_high = std::max(owner.graph_bytes_high, owner.graph_bytes);
}

}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;

SIM_API cuGraphGetEdges(CUgraph graph, CUgraphNode* from, CUgraphNode* to, size_t* count) {
  SIM_ENTER(cuGraphGetEdges, kInit);
  return sim::ListEdges(guard.state(), graph, from, to, nullptr, count);
}

SIM_API cuGraphGetEdges_v2(CUgraph graph, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data,
                           size_t* count) {
  SIM_ENTER(cuGraphGetEdges, kInit);
  return sim::ListEdges(guard.state(), graph, from, to, data, count);
}

SIM_API cuGraphNodeGetDependencies(CUgraphNode node, CUgraphNode* nodes, size_t* count) {
  SIM_ENTER(cuGraphNodeGetDependencies, kInit);
  return sim::ListNeighbours(guard.state(), node, &sim::Edge::to, &sim::Edge::from, nodes, nullptr, count);
}

SIM_API cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode* nodes, CUgraphEdgeData* data,
                                      size_t* count) {
  SIM_ENTER(cuGraphNodeGetDependencies, kInit);
  return sim::ListNeighbours(guard.state(), node, &sim::Edge::to, &sim::Edge::from, nodes, data, count);
}

SIM_API cuGraphNodeGetDependentNodes(CUgraphNode node, CUgraphNode* nodes, size_t* count) {
  SIM_ENTER(cuGraphNodeGetDependentNodes, kInit);
  return sim::ListNeighbours(guard.state(), node, &sim::Edge::from, &sim::Edge::to, nodes, nullptr, count);
}

SIM_API cuGraphNodeGetDependentNodes_v2(CUgraphNode node, CUgraphNode* nodes, CUgraphEdgeData* data,
                                        size_t* count) {
  SIM_ENTER(cuGraphNodeGetDependentNodes, kInit);
  return sim::ListNeighbours(guard.state(), node, &sim::Edge::from, &sim::Edge::to, nodes, data, count);
}

SIM_API cuDeviceGetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void* value) {
  SIM_ENTER(cuDeviceGetGraphMemAttribute, kInit);
  if (!guard.state().IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  if (value == nullptr || !sim::IsGraphMemory(attribute)) return CUDA_ERROR_INVALID_VALUE;
  const sim::Device& owner = guard.state().devices[static_cast<size_t>(device)];
  *static_cast<cuuint64_t*>(value) = sim::IsHighMark(attribute) ? owner.graph_bytes_high : owner.graph_bytes;
  return CUDA_SUCCESS;
}

// A high-water mark can only be reset.
SIM_API cuDeviceSetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void* value) {
  SIM_ENTER(cuDeviceSetGraphMemAttribute, kInit);
  if (!guard.state().IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  if (value == nullptr || !sim::IsHighMark(attribute) || *static_cast<cuuint64_t*>(value) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  guard.state().devices[static_cast<size_t>(device)].graph_bytes_high = 0;
  return CUDA_SUCCESS;
}

SIM_API cuDeviceGraphMemTrim(CUdevice device) {
  SIM_ENTER(cuDeviceGraphMemTrim, kInit);
  if (!guard.state().IsDevice(device)) return CUDA_ERROR_INVALID_DEVICE;
  guard.state().devices[static_cast<size_t>(device)].graph_bytes = 0;
  return CUDA_SUCCESS;
}
