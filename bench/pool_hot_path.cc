// Nanoseconds for one allocate and free in the pool, of sizes that the thread has cached, on 1 to
// 16 threads; and of a mixed trace that also goes to the shared store. No GPU takes part:
// segments are addresses, and the driver's calls answer at once.
//
//   bench_pool_hot_path [--pairs=N] [--threads=N]
//   bench_pool_hot_path --pairs=N --size=BYTES   one thread, nothing else: for callgrind
//
// Each figure is the median of five runs: processor time per pair of the thread that took most. Waiting
// for a processor does not count, waiting for a lock does. Scaling shows only where there
// are as many processors as threads ("processors" in the output).
#include <algorithm>
#include <atomic>
#include <random>
#include <string>
#include <thread>

#include "base/clock.h"
#include "driver_program.h"
#include "pool/pool.h"

namespace gpuroom::bench {
namespace {

class Addresses : public SegmentSource {
 public:
  Result<CUdeviceptr> Create(uint64_t bytes, CUstream, Where) override { return next_.fetch_add(bytes); }
  Status Destroy(CUdeviceptr) override { return {}; }

 private:
  std::atomic<CUdeviceptr> next_{CUdeviceptr{1} << 40};
};

// One stream for each thread, and none of them waits for another: these are all the calls there are.
Driver QuietDriver() {
  Driver driver;
  driver.CtxSynchronize = [] { return CUDA_SUCCESS; };
  driver.EventDestroy = [](CUevent) { return CUDA_SUCCESS; };
  return driver;
}

CUstream StreamOf(int thread) {
  return reinterpret_cast<CUstream>(uintptr_t{4096} * (static_cast<unsigned>(thread) + 1));
}

void Pairs(Pool& pool, uint64_t bytes, uint64_t pairs, CUstream stream) {
  for (uint64_t i = 0; i < pairs; ++i) {
    const Result<CUdeviceptr> va = pool.Allocate(bytes, stream);
    if (!va.ok() || !pool.Free(*va, stream).ok()) std::abort();
  }
}

// A made-up trace: 200 blocks in use, most of them small, each step replaces one.
void Mixed(Pool& pool, uint64_t pairs, CUstream stream) {
  static constexpr uint64_t kMost[] = {4096, 4096, 4096, 65536, 65536, 1 << 20, 4 << 20, 24 << 20};
  std::mt19937_64 random(7);
  std::vector<CUdeviceptr> live(200);
  for (uint64_t i = 0; i < pairs; ++i) {
    CUdeviceptr& va = live[random() % live.size()];
    if (va != 0 && !pool.Free(va, stream).ok()) std::abort();
    const Result<CUdeviceptr> next = pool.Allocate(1 + random() % kMost[random() % 8], stream);
    if (!next.ok()) std::abort();
    va = *next;
  }
  for (const CUdeviceptr va : live) {
    if (va != 0 && !pool.Free(va, stream).ok()) std::abort();
  }
}

// Nanoseconds a pair when `threads` run `work(thread)` at once, after a round to warm up.
template <typename Work>
double Measure(int threads, uint64_t pairs, Work work) {
  std::atomic<int> waiting{0};
  std::atomic<double> longest{0};
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      work(i, uint64_t{1000});
      for (++waiting; waiting.load() < threads;) std::this_thread::yield();
      const uint64_t start = ReadClock(CLOCK_THREAD_CPUTIME_ID);
      work(i, pairs);
      const auto took = static_cast<double>(ReadClock(CLOCK_THREAD_CPUTIME_ID) - start);
      double seen = longest.load();
      while (took > seen && !longest.compare_exchange_weak(seen, took)) continue;
    });
  }
  for (std::thread& thread : running) thread.join();
  return longest.load() / static_cast<double>(pairs);
}

template <typename Work>
double Median5(int threads, uint64_t pairs, Work work) {
  std::vector<double> values;
  for (int i = 0; i < 5; ++i) values.push_back(Measure(threads, pairs, work));
  return Median(values);
}

}  // namespace
}  // namespace gpuroom::bench

int main(int argc, char** argv) {
  using namespace gpuroom::bench;
  const Options options(argc, argv, {"pairs", "threads", "size"});
  const uint64_t pairs = options.Number("pairs", 2'000'000);
  const auto most = static_cast<int>(options.Number("threads", 16));
  const gpuroom::Driver driver = QuietDriver();
  Addresses source;
  gpuroom::Pool pool(driver, source);
  if (const uint64_t size = options.Bytes("size", 0); size != 0) {
    Pairs(pool, size, pairs, StreamOf(0));
    return 0;
  }
  Report report("pool_hot_path");
  const std::pair<const char*, uint64_t> sizes[] = {
      {"512B", 512}, {"64KiB", 65536}, {"1MiB", 1 << 20}, {"4MiB", 4 << 20}};
  for (const auto& [name, bytes] : sizes) {
    for (int threads = 1; threads <= most; threads *= 2) {
      const auto work = [&pool, size = bytes](int i, uint64_t count) {
        Pairs(pool, size, count, StreamOf(i));
      };
      report.Figure(std::string(name) + "_" + std::to_string(threads) + "_threads_ns",
                    Median5(threads, pairs, work));
    }
  }
  for (int threads = 1; threads <= most; threads *= 4) {
    const auto work = [&pool](int i, uint64_t count) { Mixed(pool, count, StreamOf(i)); };
    report.Figure("mixed_" + std::to_string(threads) + "_threads_ns", Median5(threads, pairs / 20, work));
  }
  report.Figure("processors", static_cast<double>(std::thread::hardware_concurrency()));
  return report.Finish();
}
