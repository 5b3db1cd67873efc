// Ranges whose chunks alternate between HBM and a host node: what works with
// device access alone, and the uniform-access rule.
#include <cstring>
#include <numeric>

#include "contents.h"
#include "probe.h"

namespace gpuroom::conformance {
namespace {

constexpr size_t kChunks = 4;
constexpr size_t kBytes = kChunks * kChunk;
constexpr uint64_t kWords = kChunks * kWordsPerChunk;
// A stretch that crosses the border between the first two chunks.
constexpr size_t kAcross = kChunk - 8192;
constexpr uint64_t kAcrossWords = 2048;

struct Case {
  Session& s;
  Scope& scope;
  CUdeviceptr va;  // a mixed range of kChunks chunks
};

using Body = std::function<std::string(Case&)>;

void Add(ProbeList& list, const char* name, Body body) {
  list.push_back({std::string("mixed.") + name, [body](Session& s) {
                    Scope scope(s);
                    Case c{s, scope, scope.Mixed(kChunks)};
                    return body(c);
                  }});
}

// The call's result, and after a success what the check says.
template <typename Check>
std::string Then(CUresult result, Check check) {
  return result == CUDA_SUCCESS ? Name(result) + ", " + check() : Name(result);
}

void AddMemsets(ProbeList& list) {
  Add(list, "memset_d8", [](Case& c) {
    return Then(c.s.cu().MemsetD8(c.va, 0xa5, kBytes), [&] { return CheckBytes(c.s, c.va, kBytes, 0xa5); });
  });
  Add(list, "memset_d16", [](Case& c) {
    return Then(c.s.cu().MemsetD16(c.va, 0x5a5a, kBytes / 2),
                [&] { return CheckBytes(c.s, c.va, kBytes, 0x5a); });
  });
  Add(list, "memset_d32", [](Case& c) {
    return Then(c.s.cu().MemsetD32(c.va, 0x77777777, kBytes / 4),
                [&] { return CheckBytes(c.s, c.va, kBytes, 0x77); });
  });
  Add(list, "memset_2d", [](Case& c) {
    return Then(c.s.cu().MemsetD2D8(c.va, kMiB, 0x11, kMiB, kBytes / kMiB),
                [&] { return CheckBytes(c.s, c.va, kBytes, 0x11); });
  });
  Add(list, "memset_async", [](Case& c) {
    const CUstream stream = c.scope.Stream();
    const CUresult result = c.s.cu().MemsetD8Async(c.va, 0x22, kBytes, stream);
    Need(c.s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    return Then(result, [&] { return CheckBytes(c.s, c.va, kBytes, 0x22); });
  });
  Add(list, "memset_across_border", [](Case& c) {
    Need(c.s.cu().MemsetD8(c.va, 0, kBytes), "cuMemsetD8");
    return Then(c.s.cu().MemsetD8(c.va + kAcross, 0x33, 16384),
                [&] { return CheckBytes(c.s, c.va + kAcross, 16384, 0x33); });
  });
}

void AddCopies(ProbeList& list) {
  Add(list, "copy_in_pageable", [](Case& c) {
    const std::vector<uint64_t> words = Pattern(kWords, 1);
    return Then(c.s.cu().MemcpyHtoD(c.va, words.data(), kBytes),
                [&] { return CheckByKernel(c.s, c.va, kWords, 1); });
  });
  Add(list, "copy_in_pinned_async", [](Case& c) {
    const std::vector<uint64_t> words = Pattern(kWords, 2);
    void* pinned = c.scope.Pinned(kBytes);
    std::memcpy(pinned, words.data(), kBytes);
    const CUstream stream = c.scope.Stream();
    const CUresult result = c.s.cu().MemcpyHtoDAsync(c.va, pinned, kBytes, stream);
    Need(c.s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    return Then(result, [&] { return CheckByKernel(c.s, c.va, kWords, 2); });
  });
  Add(list, "copy_out_pageable", [](Case& c) {
    FillAndWait(c.s, c.va, kWords, 3);
    std::vector<uint64_t> words(kWords);
    return Then(c.s.cu().MemcpyDtoH(words.data(), c.va, kBytes),
                [&] { return CheckHere(words.data(), kWords, 3); });
  });
  Add(list, "copy_out_pinned_async", [](Case& c) {
    FillAndWait(c.s, c.va, kWords, 4);
    void* pinned = c.scope.Pinned(kBytes);
    const CUstream stream = c.scope.Stream();
    const CUresult result = c.s.cu().MemcpyDtoHAsync(pinned, c.va, kBytes, stream);
    Need(c.s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    return Then(result, [&] { return CheckHere(static_cast<uint64_t*>(pinned), kWords, 4); });
  });
  Add(list, "copy_to_device_memory", [](Case& c) {
    FillAndWait(c.s, c.va, kWords, 5);
    const CUdeviceptr p = c.scope.Alloc(kBytes);
    return Then(c.s.cu().MemcpyDtoD(p, c.va, kBytes), [&] { return CheckByKernel(c.s, p, kWords, 5); });
  });
  Add(list, "copy_from_device_memory_async", [](Case& c) {
    const CUdeviceptr p = c.scope.Alloc(kBytes);
    FillAndWait(c.s, p, kWords, 6);
    const CUstream stream = c.scope.Stream();
    const CUresult result = c.s.cu().MemcpyDtoDAsync(c.va, p, kBytes, stream);
    Need(c.s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    return Then(result, [&] { return CheckByKernel(c.s, c.va, kWords, 6); });
  });
  Add(list, "copy_between_mixed_ranges", [](Case& c) {
    FillAndWait(c.s, c.va, kWords, 7);
    const CUdeviceptr other = c.scope.Range({Place::kNode, Place::kDevice, Place::kNode, Place::kDevice});
    return Then(c.s.cu().MemcpyDtoD(other, c.va, kBytes),
                [&] { return CheckByKernel(c.s, other, kWords, 7); });
  });
  Add(list, "copy_untyped", [](Case& c) {
    FillAndWait(c.s, c.va, kWords, 8);
    const CUdeviceptr p = c.scope.Alloc(kBytes);
    std::vector<uint64_t> words(kWords);
    Need(c.s.cu().Memcpy(p, c.va, kBytes), "cuMemcpy to device memory");
    return Then(c.s.cu().Memcpy(reinterpret_cast<CUdeviceptr>(words.data()), p, kBytes),
                [&] { return CheckHere(words.data(), kWords, 8); });
  });
  Add(list, "copy_untyped_to_host_async", [](Case& c) {
    FillAndWait(c.s, c.va, kWords, 9);
    void* pinned = c.scope.Pinned(kBytes);
    const CUstream stream = c.scope.Stream();
    const CUresult result = c.s.cu().MemcpyAsync(reinterpret_cast<CUdeviceptr>(pinned), c.va, kBytes, stream);
    Need(c.s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    return Then(result, [&] { return CheckHere(static_cast<uint64_t*>(pinned), kWords, 9); });
  });
  Add(list, "copy_across_border_out", [](Case& c) {
    FillAndWait(c.s, c.va + kAcross, kAcrossWords, 10);
    std::vector<uint64_t> words(kAcrossWords);
    return Then(c.s.cu().MemcpyDtoH(words.data(), c.va + kAcross, kAcrossWords * 8),
                [&] { return CheckHere(words.data(), kAcrossWords, 10); });
  });
  Add(list, "copy_across_border_in", [](Case& c) {
    const std::vector<uint64_t> words = Pattern(kAcrossWords, 11);
    return Then(c.s.cu().MemcpyHtoD(c.va + kAcross, words.data(), kAcrossWords * 8),
                [&] { return CheckByKernel(c.s, c.va + kAcross, kAcrossWords, 11); });
  });
  Add(list, "copy_2d", [](Case& c) {
    FillAndWait(c.s, c.va, kWords, 12);
    std::vector<uint64_t> words(kWords);
    CUDA_MEMCPY2D copy = {};
    copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.srcDevice = c.va;
    copy.srcPitch = kMiB;
    copy.dstMemoryType = CU_MEMORYTYPE_HOST;
    copy.dstHost = words.data();
    copy.dstPitch = kMiB;
    copy.WidthInBytes = kMiB;
    copy.Height = kBytes / kMiB;
    return Then(c.s.cu().Memcpy2D(&copy), [&] { return CheckHere(words.data(), kWords, 12); });
  });
}

void AddKernels(ProbeList& list) {
  Add(list, "kernels_fill_and_verify", [](Case& c) {
    FillAndWait(c.s, c.va, kWords, 20);
    return CheckByKernel(c.s, c.va, kWords, 20);
  });
  Add(list, "kernel_sum", [](Case& c) {
    FillAndWait(c.s, c.va, kWords, 21);
    const CUdeviceptr out = c.scope.Alloc(8);
    Need(c.s.cu().MemsetD8(out, 0, 8), "cuMemsetD8");
    c.s.Sum(c.va, kWords, out, nullptr);
    uint64_t sum = 0;
    Need(c.s.cu().MemcpyDtoH(&sum, out, 8), "cuMemcpyDtoH");
    const std::vector<uint64_t> words = Pattern(kWords, 21);
    return std::string(sum == std::accumulate(words.begin(), words.end(), uint64_t{0}) ? "right" : "wrong");
  });
  Add(list, "graph_of_memset_and_kernel", [](Case& c) {
    const Cuda& cu = c.s.cu();
    const CUstream stream = c.scope.Stream();
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    c.s.Kernel("gpuroom_fill");
    Need(cu.StreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), "cuStreamBeginCapture");
    const CUresult set = cu.MemsetD8Async(c.va, 0, kBytes, stream);
    c.s.Fill(c.va, kWords, 22, stream);
    Need(cu.StreamEndCapture(stream, &graph), "cuStreamEndCapture");
    c.scope.AtEnd([&cu, graph] { cu.GraphDestroy(graph); });
    Need(cu.GraphInstantiate(&exec, graph, 0), "cuGraphInstantiate");
    c.scope.AtEnd([&cu, exec] { cu.GraphExecDestroy(exec); });
    Need(cu.GraphLaunch(exec, stream), "cuGraphLaunch");
    Need(cu.StreamSynchronize(stream), "cuStreamSynchronize");
    return Then(set, [&] { return CheckByKernel(c.s, c.va, kWords, 22); });
  });
}

// Device access everywhere, and host access on the host chunks alone.
void AddUniformAccess(ProbeList& list) {
  const auto add = [&](const char* name, std::function<CUresult(Case&)> call) {
    list.push_back({std::string("uniform.") + name, [call](Session& s) {
                      Scope scope(s);
                      Case c{s, scope, scope.Mixed(2)};
                      scope.Access(c.va + kChunk, kChunk, Place::kHost);
                      return Name(call(c));
                    }});
  };
  add("memset_over_both", [](Case& c) { return c.s.cu().MemsetD8(c.va, 1, 2 * kChunk); });
  add("memset_d32_over_both", [](Case& c) { return c.s.cu().MemsetD32(c.va, 1, 2 * kChunk / 4); });
  add("memset_async_over_both", [](Case& c) { return c.s.cu().MemsetD8Async(c.va, 1, 2 * kChunk, nullptr); });
  add("memset_device_chunk", [](Case& c) { return c.s.cu().MemsetD8(c.va, 1, kChunk); });
  add("memset_host_chunk", [](Case& c) { return c.s.cu().MemsetD8(c.va + kChunk, 1, kChunk); });
  add("copy_in_over_both", [](Case& c) {
    const std::vector<char> bytes(2 * kChunk);
    return c.s.cu().MemcpyHtoD(c.va, bytes.data(), bytes.size());
  });
  add("copy_out_over_both", [](Case& c) {
    std::vector<char> bytes(2 * kChunk);
    return c.s.cu().MemcpyDtoH(bytes.data(), c.va, bytes.size());
  });
  add("copy_in_pinned_over_both",
      [](Case& c) { return c.s.cu().MemcpyHtoD(c.va, c.scope.Pinned(2 * kChunk), 2 * kChunk); });
  add("copy_out_pinned_over_both",
      [](Case& c) { return c.s.cu().MemcpyDtoH(c.scope.Pinned(2 * kChunk), c.va, 2 * kChunk); });
  add("copy_out_async_pinned_over_both", [](Case& c) {
    void* pinned = c.scope.Pinned(2 * kChunk);
    const CUresult result = c.s.cu().MemcpyDtoHAsync(pinned, c.va, 2 * kChunk, nullptr);
    Need(c.s.cu().CtxSynchronize(), "cuCtxSynchronize");
    return result;
  });
  add("copy_out_small_across_border", [](Case& c) {
    std::vector<char> bytes(4096);
    return c.s.cu().MemcpyDtoH(bytes.data(), c.va + kChunk - 2048, bytes.size());
  });
  add("copy_device_over_both",
      [](Case& c) { return c.s.cu().MemcpyDtoD(c.scope.Alloc(2 * kChunk), c.va, 2 * kChunk); });
  add("copy_out_host_chunk", [](Case& c) {
    std::vector<char> bytes(kChunk);
    return c.s.cu().MemcpyDtoH(bytes.data(), c.va + kChunk, bytes.size());
  });
  add("kernel_over_both", [](Case& c) {
    c.s.Fill(c.va, 2 * kWordsPerChunk, 1, nullptr);
    return c.s.cu().CtxSynchronize();
  });
  add("memset_over_both_with_one_read_only", [](Case& c) {
    const CUdeviceptr va = c.scope.Mixed(2);
    const CUmemAccessDesc access = {c.s.Location(Place::kDevice), CU_MEM_ACCESS_FLAGS_PROT_READ};
    Need(c.s.cu().MemSetAccess(va + kChunk, kChunk, &access, 1), "read only");
    return c.s.cu().MemsetD8(va, 1, 2 * kChunk);
  });
  add("copy_out_over_both_with_one_read_only", [](Case& c) {
    const CUdeviceptr va = c.scope.Mixed(2);
    const CUmemAccessDesc access = {c.s.Location(Place::kDevice), CU_MEM_ACCESS_FLAGS_PROT_READ};
    Need(c.s.cu().MemSetAccess(va + kChunk, kChunk, &access, 1), "read only");
    std::vector<char> bytes(2 * kChunk);
    return c.s.cu().MemcpyDtoH(bytes.data(), va, bytes.size());
  });
  // All device chunks, two of one access: the borders alone do no harm.
  add("memset_over_two_device_chunks", [](Case& c) {
    return c.s.cu().MemsetD8(c.scope.Range({Place::kDevice, Place::kDevice}), 1, 2 * kChunk);
  });
}

}  // namespace

void AddMixedProbes(ProbeList& list) {
  AddMemsets(list);
  AddCopies(list);
  AddKernels(list);
  AddUniformAccess(list);
}

}  // namespace gpuroom::conformance
