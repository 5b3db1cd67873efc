// StreamKey: which stream a block belongs to. Handles alone do not say: 0 and 1
// are the same legacy stream, and 2 (CU_STREAM_PER_THREAD) is another stream on
// each thread. Work can be put on another thread's per-thread stream by that
// thread only; RecordableHandle knows.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace gpuroom {

using StreamKey = uint64_t;

// No stream: every use of the block is over.
inline constexpr StreamKey kIdleKey = UINT64_MAX;
// Uses that no stream's order covers (a graph's): over once the device is idle.
inline constexpr StreamKey kUnorderedKey = UINT64_MAX - 1;
inline constexpr StreamKey kLegacyKey = 1;
inline constexpr StreamKey kPerThreadBit = uint64_t{1} << 63;

// A number of this thread's own, from 1.
uint64_t ThreadNumber();

// What `stream` means to a call of this thread. 0 means the legacy stream;
// callers whose 0 is the per-thread one pass CU_STREAM_PER_THREAD.
inline StreamKey KeyOf(CUstream stream) {
  const auto handle = reinterpret_cast<uint64_t>(stream);
  if (handle > 2) return handle;
  return handle == 2 ? kPerThreadBit | ThreadNumber() : kLegacyKey;
}

// The handle by which this thread can put work on that stream; false: it cannot.
bool RecordableHandle(StreamKey key, CUstream* stream);

}  // namespace gpuroom
