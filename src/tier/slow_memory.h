// SlowMemory: how much memory this process has that lies, or may lie, outside its GPUs' own: host and peer
// chunks, managed memory, memory that was opened from other processes. Kept by whoever hands such memory out;
// asking is one load. One count per process. Any thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace gpuroom {

class SlowMemory {
 public:
  static void Add(uint64_t bytes) { bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  static void Remove(uint64_t bytes) { bytes_.fetch_sub(bytes, std::memory_order_relaxed); }
  // Whether kernels may meet any.
  static bool Any() { return bytes_.load(std::memory_order_relaxed) != 0; }

 private:
  static inline std::atomic<uint64_t> bytes_{0};
};

}  // namespace gpuroom
