// A CUDA runtime program, built once with -cudart static and once with -cudart
// shared: takes more device memory than the limit, checks every word, captures
// a graph, and survives a request that is too large. Prints one JSON line.
// Usage: runtime_memory PIECE_BYTES PIECES EXPECTED_TOTAL
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

bool failed = false;
std::string checks;

void Check(const char* name, bool ok, const std::string& detail) {
  checks += std::string(checks.empty() ? "" : ", ") + "{\"name\": \"" + name +
            "\", \"ok\": " + (ok ? "true" : "false") + ", \"detail\": \"" + detail + "\"}";
  failed = failed || !ok;
}

void Need(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s failed: %s\n", call, cudaGetErrorString(error));
  std::exit(1);
}
#define NEED(call) Need((call), #call)

__global__ void Write(uint32_t* data, uint64_t count, uint32_t seed) {
  for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    data[i] = static_cast<uint32_t>(i * 2654435761u) ^ seed;
  }
}

__global__ void CountWrong(const uint32_t* data, uint64_t count, uint32_t seed, unsigned long long* wrong) {
  unsigned long long mine = 0;
  for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    mine += data[i] != (static_cast<uint32_t>(i * 2654435761u) ^ seed);
  }
  if (mine != 0) atomicAdd(wrong, mine);
}

unsigned long long Wrong(const uint32_t* data, uint64_t count, uint32_t seed) {
  static unsigned long long* wrong = nullptr;
  if (wrong == nullptr) NEED(cudaMalloc(&wrong, sizeof *wrong));
  NEED(cudaMemset(wrong, 0, sizeof *wrong));
  CountWrong<<<1024, 256>>>(data, count, seed, wrong);
  unsigned long long host = 0;
  NEED(cudaMemcpy(&host, wrong, sizeof host, cudaMemcpyDeviceToHost));
  return host;
}

void Graph(uint32_t* data, uint64_t count) {
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  NEED(cudaStreamCreate(&stream));
  NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  Write<<<1024, 256, 0, stream>>>(data, count, 77);
  NEED(cudaStreamEndCapture(stream, &graph));
  NEED(cudaGraphInstantiate(&exec, graph, 0));
  NEED(cudaGraphLaunch(exec, stream));
  NEED(cudaStreamSynchronize(stream));
  Check("graph", Wrong(data, count, 77) == 0, "words after the replay");
}

void TooLarge(size_t total) {
  void* pointer = nullptr;
  cudaError_t error = cudaMalloc(&pointer, 2 * total);
  Check("too_large", error == cudaErrorMemoryAllocation, cudaGetErrorName(error));
  (void)cudaGetLastError();
  NEED(cudaMalloc(&pointer, 1 << 20));
  NEED(cudaFree(pointer));
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t piece = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : uint64_t{64} << 20;
  int pieces = argc > 2 ? std::atoi(argv[2]) : 4;
  uint64_t expected = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 0;
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) {
    std::printf("{\"skip\": \"no usable GPU\"}\n");
    return 77;
  }
  size_t free_before = 0, free_after = 0, total = 0;
  Wrong(nullptr, 0, 0);
  NEED(cudaMemGetInfo(&free_before, &total));
  Check("totals_agree", total == properties.totalGlobalMem,
        std::to_string(total) + " and " + std::to_string(properties.totalGlobalMem));
  if (expected != 0) Check("total", total == expected, std::to_string(total) + " bytes");

  uint64_t count = piece / sizeof(uint32_t);
  std::vector<uint32_t*> data(pieces);
  for (int i = 0; i < pieces; ++i) {
    NEED(cudaMalloc(&data[i], piece));
    Write<<<1024, 256>>>(data[i], count, i + 1);
  }
  unsigned long long wrong = 0;
  for (int i = 0; i < pieces; ++i) wrong += Wrong(data[i], count, i + 1);
  Check("values", wrong == 0, std::to_string(wrong) + " wrong words");
  cudaPointerAttributes attributes;
  NEED(cudaPointerGetAttributes(&attributes, data.back() + 1));
  Check("pointer_type", attributes.type == cudaMemoryTypeDevice, std::to_string(attributes.type));
  NEED(cudaMemcpy(data.front(), data.back(), piece, cudaMemcpyDeviceToDevice));
  Check("copy", Wrong(data.front(), count, pieces) == 0, "words after the copy");
  Graph(data.back(), count);
  TooLarge(total);
  void* async = nullptr;
  NEED(cudaMallocAsync(&async, piece, cudaStreamPerThread));
  Write<<<1024, 256, 0, cudaStreamPerThread>>>(static_cast<uint32_t*>(async), count, 5);
  NEED(cudaStreamSynchronize(cudaStreamPerThread));
  Check("async_allocation", Wrong(static_cast<uint32_t*>(async), count, 5) == 0, "words");
  NEED(cudaFreeAsync(async, cudaStreamPerThread));
  NEED(cudaStreamSynchronize(cudaStreamPerThread));
  for (uint32_t* pointer : data) NEED(cudaFree(pointer));
  NEED(cudaMemGetInfo(&free_after, &total));
  Check("memory_back", free_after + (size_t{32} << 20) >= free_before,
        std::to_string(free_before) + " bytes free before, " + std::to_string(free_after) + " after");
  std::printf("{\"program\": \"runtime_memory\", \"checks\": [%s], \"figures\": {}}\n", checks.c_str());
  return failed ? 1 : 0;
}
