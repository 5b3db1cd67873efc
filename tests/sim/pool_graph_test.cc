// Pools of places and of other processes, and what graphs say of their edges and memory.
#include <unistd.h>

#include "sim_test.h"

namespace gpuroom::sim {
namespace {

class PoolTest : public SimTest {
 protected:
  static CUmemoryPool Make(CUmemAllocationHandleType share) {
    CUmemPoolProps props = {};
    props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.handleTypes = share;
    props.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
    CUmemoryPool pool = nullptr;
    EXPECT_EQ(cuMemPoolCreate(&pool, &props), CUDA_SUCCESS);
    return pool;
  }
};

TEST_F(PoolTest, EveryPlaceHasADefaultPoolAndACurrentOne) {
  CUmemoryPool pool = nullptr;
  CUmemoryPool of_device = nullptr;
  CUmemLocation place = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  ASSERT_EQ(cuMemGetDefaultMemPool(&pool, &place, CU_MEM_ALLOCATION_TYPE_PINNED), CUDA_SUCCESS);
  ASSERT_EQ(cuDeviceGetDefaultMemPool(&of_device, 0), CUDA_SUCCESS);
  EXPECT_EQ(pool, of_device);
  const CUmemoryPool own = Make(CU_MEM_HANDLE_TYPE_NONE);
  ASSERT_EQ(cuMemSetMemPool(&place, CU_MEM_ALLOCATION_TYPE_PINNED, own), CUDA_SUCCESS);
  ASSERT_EQ(cuMemGetMemPool(&pool, &place, CU_MEM_ALLOCATION_TYPE_PINNED), CUDA_SUCCESS);
  EXPECT_EQ(pool, own);
  ASSERT_EQ(cuDeviceGetMemPool(&of_device, 0), CUDA_SUCCESS);
  EXPECT_EQ(of_device, own);
  CUmemLocation node = {CU_MEM_LOCATION_TYPE_HOST_NUMA, 1};
  CUmemoryPool of_node = nullptr;
  ASSERT_EQ(cuMemGetMemPool(&of_node, &node, CU_MEM_ALLOCATION_TYPE_PINNED), CUDA_SUCCESS);
  EXPECT_NE(of_node, pool);
  EXPECT_EQ(cuMemSetMemPool(&node, CU_MEM_ALLOCATION_TYPE_PINNED, own), CUDA_ERROR_INVALID_VALUE);
  node.id = 2;
  EXPECT_EQ(cuMemGetMemPool(&of_node, &node, CU_MEM_ALLOCATION_TYPE_PINNED), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemPoolDestroy(own), CUDA_SUCCESS);
  ASSERT_EQ(cuMemGetMemPool(&pool, &place, CU_MEM_ALLOCATION_TYPE_PINNED), CUDA_SUCCESS);
  EXPECT_NE(pool, own);
}

TEST_F(PoolTest, OnlyOneThatWasMadeForItIsExported) {
  int fd = -1;
  const CUmemoryPool plain = Make(CU_MEM_HANDLE_TYPE_NONE);
  EXPECT_EQ(cuMemPoolExportToShareableHandle(&fd, plain, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
            CUDA_ERROR_INVALID_VALUE);
  CUdeviceptr address = 0;
  ASSERT_EQ(cuMemAllocFromPoolAsync(&address, kChunk, plain, nullptr), CUDA_SUCCESS);
  CUmemPoolPtrExportData data;
  EXPECT_EQ(cuMemPoolExportPointer(&data, address), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemFree(address), CUDA_SUCCESS);
  EXPECT_EQ(cuMemPoolDestroy(plain), CUDA_SUCCESS);
}

TEST_F(PoolTest, ItsBytesAreSeenThroughAnImport) {
  const CUmemoryPool pool = Make(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  CUdeviceptr address = 0;
  ASSERT_EQ(cuMemAllocFromPoolAsync(&address, 3000, pool, nullptr), CUDA_SUCCESS);
  ASSERT_EQ(cuMemsetD8(address, 9, 3000), CUDA_SUCCESS);
  ASSERT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
  int fd = -1;
  CUmemPoolPtrExportData data;
  EXPECT_EQ(cuMemPoolExportPointer(&data, address), CUDA_ERROR_INVALID_VALUE);  // before the pool is exported
  ASSERT_EQ(cuMemPoolExportToShareableHandle(&fd, pool, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
            CUDA_SUCCESS);
  ASSERT_EQ(cuMemPoolExportPointer(&data, address), CUDA_SUCCESS);
  CUmemoryPool imported = nullptr;
  ASSERT_EQ(cuMemPoolImportFromShareableHandle(&imported, reinterpret_cast<void*>(static_cast<intptr_t>(fd)),
                                               CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
            CUDA_SUCCESS);
  close(fd);
  CUdeviceptr none = 0;
  EXPECT_EQ(cuMemAllocFromPoolAsync(&none, 3000, imported, nullptr), CUDA_ERROR_INVALID_VALUE);
  CUdeviceptr seen = 0;
  ASSERT_EQ(cuMemPoolImportPointer(&seen, imported, &data), CUDA_SUCCESS);
  EXPECT_NE(seen, address);
  unsigned char byte = 0;
  ASSERT_EQ(cuMemcpyDtoH(&byte, seen + 2999, 1), CUDA_SUCCESS);
  EXPECT_EQ(byte, 9);
  EXPECT_EQ(cuMemPoolImportPointer(&none, pool, &data), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemFreeAsync(seen, nullptr), CUDA_SUCCESS);
  EXPECT_EQ(cuStreamSynchronize(nullptr), CUDA_SUCCESS);
  EXPECT_EQ(cuMemFree(address), CUDA_SUCCESS);
  EXPECT_EQ(cuMemPoolDestroy(imported), CUDA_SUCCESS);
  EXPECT_EQ(cuMemPoolDestroy(pool), CUDA_SUCCESS);
}

TEST_F(PoolTest, ADescriptorOfSomethingElseIsNoPool) {
  CUmemoryPool pool = nullptr;
  EXPECT_EQ(cuMemPoolImportFromShareableHandle(&pool, nullptr, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
            CUDA_ERROR_INVALID_VALUE);
}

class GraphQueryTest : public SimTest {
 protected:
  void SetUp() override {
    SimTest::SetUp();
    ASSERT_EQ(cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  }
  void TearDown() override {
    EXPECT_EQ(cuStreamDestroy(stream_), CUDA_SUCCESS);
    SimTest::TearDown();
  }
  void Begin() { ASSERT_EQ(cuStreamBeginCapture(stream_, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS); }
  CUgraph End() {
    CUgraph graph = nullptr;
    EXPECT_EQ(cuStreamEndCapture(stream_, &graph), CUDA_SUCCESS);
    return graph;
  }

  CUstream stream_ = nullptr;
};

TEST_F(GraphQueryTest, EdgesAndNeighboursAreThoseOfTheCapture) {
  CUdeviceptr address = 0;
  ASSERT_EQ(cuMemAlloc(&address, kChunk), CUDA_SUCCESS);
  Begin();
  for (int i = 0; i < 3; ++i) ASSERT_EQ(cuMemsetD8Async(address, 1, 16, stream_), CUDA_SUCCESS);
  const CUgraph graph = End();
  CUgraphNode nodes[3] = {};
  size_t count = 3;
  ASSERT_EQ(cuGraphGetNodes(graph, nodes, &count), CUDA_SUCCESS);
  ASSERT_EQ(cuGraphGetEdges(graph, nullptr, nullptr, nullptr, &count), CUDA_SUCCESS);
  ASSERT_EQ(count, 2U);
  CUgraphNode from[3] = {nodes[0], nodes[0], nodes[0]};
  CUgraphNode to[3] = {nodes[0], nodes[0], nodes[0]};
  CUgraphEdgeData data[3] = {{1, 1, 1, {}}, {1, 1, 1, {}}, {1, 1, 1, {}}};
  count = 3;
  ASSERT_EQ(cuGraphGetEdges(graph, from, to, data, &count), CUDA_SUCCESS);
  EXPECT_EQ(count, 2U);
  EXPECT_EQ(from[0], nodes[0]);
  EXPECT_EQ(to[0], nodes[1]);
  EXPECT_EQ(from[1], nodes[1]);
  EXPECT_EQ(to[1], nodes[2]);
  EXPECT_EQ(from[2], nullptr);
  EXPECT_EQ(data[0].from_port, 0);
  count = 3;
  ASSERT_EQ(cuGraphNodeGetDependencies(nodes[1], from, nullptr, &count), CUDA_SUCCESS);
  EXPECT_EQ(count, 1U);
  EXPECT_EQ(from[0], nodes[0]);
  count = 3;
  ASSERT_EQ(cuGraphNodeGetDependentNodes(nodes[1], to, data, &count), CUDA_SUCCESS);
  EXPECT_EQ(count, 1U);
  EXPECT_EQ(to[0], nodes[2]);
  EXPECT_EQ(cuGraphGetEdges(graph, nullptr, nullptr, data, &count), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuGraphGetEdges(graph, from, nullptr, nullptr, &count), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuGraphDestroy(graph), CUDA_SUCCESS);
  EXPECT_EQ(cuGraphGetEdges(graph, nullptr, nullptr, nullptr, &count), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuGraphNodeGetDependencies(nodes[1], nullptr, nullptr, &count), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemFree(address), CUDA_SUCCESS);
}

cuuint64_t GraphMemory(CUgraphMem_attribute attribute) {
  cuuint64_t value = 1;
  EXPECT_EQ(cuDeviceGetGraphMemAttribute(0, attribute, &value), CUDA_SUCCESS);
  return value;
}

TEST_F(GraphQueryTest, MemoryThatGraphsAllocateIsCountedFromTheirLaunchOn) {
  constexpr uint64_t kUnit = uint64_t{32} << 20;
  EXPECT_EQ(GraphMemory(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT), 0U);
  Begin();
  CUdeviceptr address = 0;
  ASSERT_EQ(cuMemAllocAsync(&address, 2 * kChunk, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cuMemFreeAsync(address, stream_), CUDA_SUCCESS);
  const CUgraph graph = End();
  CUgraphExec exec = nullptr;
  ASSERT_EQ(cuGraphInstantiate(&exec, graph, 0), CUDA_SUCCESS);
  EXPECT_EQ(GraphMemory(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT), 0U);
  ASSERT_EQ(cuGraphLaunch(exec, stream_), CUDA_SUCCESS);
  ASSERT_EQ(cuStreamSynchronize(stream_), CUDA_SUCCESS);
  EXPECT_EQ(GraphMemory(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT), kUnit);
  EXPECT_EQ(cuGraphExecDestroy(exec), CUDA_SUCCESS);
  EXPECT_EQ(cuGraphDestroy(graph), CUDA_SUCCESS);
  EXPECT_EQ(GraphMemory(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT), kUnit);
  EXPECT_EQ(cuDeviceGraphMemTrim(0), CUDA_SUCCESS);
  EXPECT_EQ(GraphMemory(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT), 0U);
  EXPECT_EQ(GraphMemory(CU_GRAPH_MEM_ATTR_USED_MEM_HIGH), kUnit);
  cuuint64_t value = 0;
  EXPECT_EQ(cuDeviceSetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, &value), CUDA_SUCCESS);
  EXPECT_EQ(GraphMemory(CU_GRAPH_MEM_ATTR_USED_MEM_HIGH), 0U);
  EXPECT_EQ(cuDeviceSetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &value),
            CUDA_ERROR_INVALID_VALUE);
  value = 1;
  EXPECT_EQ(cuDeviceSetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, &value),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuDeviceGetGraphMemAttribute(2, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, &value),
            CUDA_ERROR_INVALID_DEVICE);
  EXPECT_EQ(cuDeviceGraphMemTrim(-1), CUDA_ERROR_INVALID_DEVICE);
}

}  // namespace
}  // namespace gpuroom::sim
