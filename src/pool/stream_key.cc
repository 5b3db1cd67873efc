#include "pool/stream_key.h"

#include <atomic>

namespace gpuroom {
namespace {

std::atomic<uint64_t> next_thread{1};

}  // namespace

uint64_t ThreadNumber() {
  // initial-exec: a few bytes, also where this library is opened at run time.
  static thread_local uint64_t number __attribute__((tls_model("initial-exec"))) = 0;
  if (number == 0) number = next_thread.fetch_add(1, std::memory_order_relaxed);
  return number;
}

bool RecordableHandle(StreamKey key, CUstream* stream) {
  if (key == kIdleKey || key == kUnorderedKey) return false;
  if ((key & kPerThreadBit) != 0) {
    *stream = CU_STREAM_PER_THREAD;
    return key == KeyOf(CU_STREAM_PER_THREAD);
  }
  *stream = key == kLegacyKey ? CU_STREAM_LEGACY : reinterpret_cast<CUstream>(key);
  return true;
}

}  // namespace gpuroom
