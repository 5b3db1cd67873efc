#include "kernels.h"

#include <algorithm>
#include <cstring>

#include "copy.h"

namespace gpuroom::sim {
namespace {

// For loops over the words of device memory, whose bounds and order Visit and the streams see to:
// sanitizers would look at every word, and took most of the tests' time.
#define GPUROOM_SIM_WORDS __attribute__((no_sanitize("thread", "address", "undefined")))

// SplitMix64.
__attribute__((always_inline)) inline uint64_t MixWord(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

GPUROOM_SIM_WORDS void FillWords(uint64_t* out, uint64_t count, uint64_t seed) {
  for (uint64_t i = 0; i < count; ++i) out[i] = MixWord(seed + i);
}

GPUROOM_SIM_WORDS void StoreWords(uint64_t* out, uint64_t count, uint64_t value) {
  for (uint64_t i = 0; i < count; ++i) out[i] = value;
}

GPUROOM_SIM_WORDS uint64_t SumWords(const uint64_t* in, uint64_t count) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < count; ++i) sum += in[i];
  return sum;
}

GPUROOM_SIM_WORDS uint64_t CountOther(const uint64_t* in, uint64_t count, uint64_t seed) {
  uint64_t bad = 0;
  for (uint64_t i = 0; i < count; ++i) bad += in[i] != MixWord(seed + i);
  return bad;
}

// Runs `piece` over the contiguous pieces of `words` 64-bit words.
template <typename Piece>
CUresult EachPiece(CUdeviceptr start, uint64_t words, int device, Access access, Piece piece) {
  if (start % 8 != 0) return CUDA_ERROR_MISALIGNED_ADDRESS;
  if (words == 0) return CUDA_SUCCESS;
  const bool pageable = GetState().profile.coherent && !IsKnown(start);
  uint64_t first = 0;
  return Visit(start, words * 8, Actor{device, true}, access, pageable, [&](char* bytes, uint64_t size) {
    piece(reinterpret_cast<uint64_t*>(bytes), size / 8, first);
    first += size / 8;
    return CUDA_SUCCESS;
  });
}

CUresult AddTo(CUdeviceptr out, uint64_t amount, int device) {
  return EachPiece(out, 1, device, Access::kWrite,
                   [&](uint64_t* word, uint64_t, uint64_t) { *word += amount; });
}

Operation Work(std::function<CUresult()> work) {
  Operation operation;
  operation.kind = CU_GRAPH_NODE_TYPE_KERNEL;
  operation.work = std::move(work);
  return operation;
}

Operation Fill(const uint64_t* a, int device) {
  return Work([p = a[0], words = a[1], seed = a[2], device] {
    return EachPiece(p, words, device, Access::kWrite, [&](uint64_t* out, uint64_t count, uint64_t first) {
      FillWords(out, count, seed + first);
    });
  });
}

Operation Store(const uint64_t* a, int device) {
  return Work([p = a[0], words = a[1], value = a[2], device] {
    return EachPiece(p, words, device, Access::kWrite,
                     [&](uint64_t* out, uint64_t count, uint64_t) { StoreWords(out, count, value); });
  });
}

Operation Sum(const uint64_t* a, int device) {
  return Work([p = a[0], words = a[1], out = a[2], device] {
    uint64_t sum = 0;
    const CUresult result =
        EachPiece(p, words, device, Access::kRead,
                  [&](const uint64_t* in, uint64_t count, uint64_t) { sum += SumWords(in, count); });
    return result == CUDA_SUCCESS ? AddTo(out, sum, device) : result;
  });
}

Operation Verify(const uint64_t* a, int device) {
  return Work([p = a[0], words = a[1], seed = a[2], bad_out = a[3], device] {
    uint64_t bad = 0;
    const CUresult result =
        EachPiece(p, words, device, Access::kRead, [&](const uint64_t* in, uint64_t count, uint64_t first) {
          bad += CountOther(in, count, seed + first);
        });
    return result == CUDA_SUCCESS ? AddTo(bad_out, bad, device) : result;
  });
}

Operation Spin(const uint64_t* a, int) {
  Operation operation = Work(nullptr);
  operation.spin_ns = a[0];
  return operation;
}

constexpr Kernel kKernels[] = {
    {"gpuroom_fill", 3, Fill},     {"gpuroom_store", 3, Store}, {"gpuroom_sum", 3, Sum},
    {"gpuroom_verify", 4, Verify}, {"gpuroom_spin", 1, Spin},
};

}  // namespace

uint64_t Mix(uint64_t x) { return MixWord(x); }

const Kernel* FindKernel(const char* name) {
  for (const Kernel& kernel : kKernels) {
    if (std::strcmp(kernel.name, name) == 0) return &kernel;
  }
  return nullptr;
}

size_t KernelCount() { return std::size(kKernels); }
const Kernel* KernelAt(size_t index) { return &kKernels[index]; }

}  // namespace gpuroom::sim
