// The kernels that gpuroom's demo, tests and benchmarks launch. kernels.ptx is
// generated from this file by regenerate.sh and committed, so that a build needs
// no nvcc; the simulated driver has the same kernels built in.
//
// All are grid-stride: any grid and any block of whole warps is right. For full
// bandwidth launch at least eight blocks of 256 threads a multiprocessor.
#include <cstdint>

namespace {

constexpr int kLoads = 4;  // independent 16-byte loads in flight in each thread

__device__ uint64_t Mix(uint64_t x) {
  uint64_t z = x + 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

__device__ uint64_t GlobalThread() { return uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ uint64_t GlobalThreads() { return uint64_t{gridDim.x} * blockDim.x; }

// One atomic a warp.
__device__ void AddToTotal(uint64_t value, uint64_t* total) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  if (threadIdx.x % 32 == 0 && value != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(total), static_cast<unsigned long long>(value));
  }
}

// Calls visit(word, index) for every word of p, reading 16 bytes at a time. A
// start that is not 16-byte aligned and an odd end are read as single words.
template <typename Visit>
__device__ void ForEachWord(const uint64_t* p, uint64_t words, Visit visit) {
  const uint64_t head = words > 0 && reinterpret_cast<uintptr_t>(p) % 16 != 0 ? 1 : 0;
  const ulonglong2* vectors = reinterpret_cast<const ulonglong2*>(p + head);
  const uint64_t count = (words - head) / 2;
  const uint64_t tile = uint64_t{blockDim.x} * kLoads;
  for (uint64_t base = blockIdx.x * tile; base < count; base += gridDim.x * tile) {
    const uint64_t first = base + threadIdx.x;
    ulonglong2 value[kLoads];
    if (base + tile <= count) {
#pragma unroll
      for (int k = 0; k < kLoads; ++k) value[k] = __ldcs(vectors + first + uint64_t{blockDim.x} * k);
#pragma unroll
      for (int k = 0; k < kLoads; ++k) {
        const uint64_t index = head + 2 * (first + uint64_t{blockDim.x} * k);
        visit(value[k].x, index);
        visit(value[k].y, index + 1);
      }
    } else {
      for (uint64_t i = first; i < count; i += blockDim.x) {
        const ulonglong2 last = __ldcs(vectors + i);
        visit(last.x, head + 2 * i);
        visit(last.y, head + 2 * i + 1);
      }
    }
  }
  if (GlobalThread() == 0) {
    if (head != 0) visit(p[0], 0);
    if (head + 2 * count < words) visit(p[words - 1], words - 1);
  }
}

}  // namespace

// p[i] = Mix(seed + i)
extern "C" __global__ void gpuroom_fill(uint64_t* p, uint64_t words, uint64_t seed) {
  const uint64_t head = words > 0 && reinterpret_cast<uintptr_t>(p) % 16 != 0 ? 1 : 0;
  ulonglong2* vectors = reinterpret_cast<ulonglong2*>(p + head);
  const uint64_t count = (words - head) / 2;
  for (uint64_t i = GlobalThread(); i < count; i += GlobalThreads()) {
    const uint64_t index = head + 2 * i;
    vectors[i] = make_ulonglong2(Mix(seed + index), Mix(seed + index + 1));
  }
  if (GlobalThread() == 0) {
    if (head != 0) p[0] = Mix(seed);
    if (head + 2 * count < words) p[words - 1] = Mix(seed + words - 1);
  }
}

// p[i] = value: nothing but stores, so that it runs at the speed of the memory
extern "C" __global__ void gpuroom_store(uint64_t* p, uint64_t words, uint64_t value) {
  const uint64_t head = words > 0 && reinterpret_cast<uintptr_t>(p) % 16 != 0 ? 1 : 0;
  ulonglong2* vectors = reinterpret_cast<ulonglong2*>(p + head);
  const uint64_t count = (words - head) / 2;
  for (uint64_t i = GlobalThread(); i < count; i += GlobalThreads())
    vectors[i] = make_ulonglong2(value, value);
  if (GlobalThread() == 0) {
    if (head != 0) p[0] = value;
    if (head + 2 * count < words) p[words - 1] = value;
  }
}

// *out += sum of the words
extern "C" __global__ void gpuroom_sum(const uint64_t* p, uint64_t words, uint64_t* out) {
  uint64_t sum = 0;
  ForEachWord(p, words, [&](uint64_t word, uint64_t) { sum += word; });
  AddToTotal(sum, out);
}

// *bad += how many words differ from what gpuroom_fill wrote
extern "C" __global__ void gpuroom_verify(const uint64_t* p, uint64_t words, uint64_t seed, uint64_t* bad) {
  uint64_t wrong = 0;
  ForEachWord(p, words, [&](uint64_t word, uint64_t index) { wrong += word != Mix(seed + index) ? 1 : 0; });
  AddToTotal(wrong, bad);
}

// Keeps every launched thread busy for that long.
extern "C" __global__ void gpuroom_spin(uint64_t nanoseconds) {
  uint64_t start;
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
  do {
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  } while (now - start < nanoseconds);
}
