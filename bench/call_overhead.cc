// Nanoseconds per driver call, seen from an unchanged program. Run it with and
// without `gpuroom run` in turns; the difference is what the shim adds to a
// call. Each figure is the median over batches; a batch makes `calls` calls of
// one kind and nothing else.
#include <cstdio>
#include <functional>

#include "driver_program.h"

namespace gpuroom::bench {
namespace {

constexpr uint64_t kSmallBytes = 4096;
constexpr uint64_t kLargeBytes = uint64_t{64} << 20;  // a range where gpuroom is loaded

class CallOverhead {
 public:
  CallOverhead(Program& program, Report& report, int calls, int batches)
      : api_(program.api()),
        device_(program.device()),
        stream_(program.stream()),
        report_(report),
        calls_(calls),
        batches_(batches) {}

  void Run() {
    AllocateAndFree();
    if (api_.MemAllocAsync != nullptr && api_.MemFreeAsync != nullptr) AllocateAndFreeAsync();
    Ask("MemGetInfo", [this](int) {
      size_t free_bytes = 0, total = 0;
      return api_.MemGetInfo(&free_bytes, &total);
    });
    for (auto [label, bytes] : {std::pair{"4KiB", kSmallBytes}, std::pair{"64MiB", kLargeBytes}}) {
      AskPointer(label, bytes);
    }
  }

 private:
  using Call = std::function<CUresult(int)>;

  // Seconds for one batch of `call`; a failure ends the program.
  double Batch(const Call& call) {
    double start = NowSeconds();
    for (int i = 0; i < calls_; ++i) GPUROOM_CHECK(call(i));
    return NowSeconds() - start;
  }

  void Record(const std::string& name, const std::vector<double>& seconds) {
    report_.Figure("cu" + name + "_ns", Median(seconds) / calls_ * 1e9);
  }

  void Ask(const std::string& name, const Call& call) {
    Batch(call);
    std::vector<double> seconds;
    for (int i = 0; i < batches_; ++i) seconds.push_back(Batch(call));
    Record(name, seconds);
  }

  // Times two calls that undo each other, apart.
  void AskPair(const std::string& first_name, const Call& first, const std::string& second_name,
               const Call& second) {
    std::vector<double> first_seconds, second_seconds;
    for (int i = 0; i <= batches_; ++i) {
      double first_batch = Batch(first);
      double second_batch = Batch(second);
      GPUROOM_CHECK(api_.StreamSynchronize(stream_));
      if (i == 0) continue;  // warms the driver's caches
      first_seconds.push_back(first_batch);
      second_seconds.push_back(second_batch);
    }
    Record(first_name, first_seconds);
    Record(second_name, second_seconds);
  }

  void AllocateAndFree() {
    std::vector<CUdeviceptr> pointers(calls_);
    AskPair(
        "MemAlloc_4KiB", [&](int i) { return api_.MemAlloc(&pointers[i], kSmallBytes); }, "MemFree_4KiB",
        [&](int i) { return api_.MemFree(pointers[i]); });
  }

  void AllocateAndFreeAsync() {
    KeepPoolMemory();
    std::vector<CUdeviceptr> pointers(calls_);
    AskPair(
        "MemAllocAsync_4KiB", [&](int i) { return api_.MemAllocAsync(&pointers[i], kSmallBytes, stream_); },
        "MemFreeAsync_4KiB", [&](int i) { return api_.MemFreeAsync(pointers[i], stream_); });
  }

  // The default pool gives memory back at every synchronise unless told to keep it.
  void KeepPoolMemory() {
    if (api_.DeviceGetMemPool == nullptr || api_.MemPoolSetAttribute == nullptr) return;
    CUmemoryPool pool = nullptr;
    GPUROOM_CHECK(api_.DeviceGetMemPool(&pool, device_));
    cuuint64_t threshold = UINT64_MAX;
    GPUROOM_CHECK(api_.MemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
  }

  void AskPointer(const std::string& label, uint64_t bytes) {
    CUdeviceptr pointer = 0;
    GPUROOM_CHECK(api_.MemAlloc(&pointer, bytes));
    CUdeviceptr inside = pointer + bytes / 2;
    Ask("PointerGetAttribute_" + label, [&](int) {
      CUmemorytype type;
      return api_.PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, inside);
    });
    Ask("PointerGetAttributes_" + label, [&](int) {
      CUmemorytype type;
      int ordinal;
      unsigned managed;
      CUpointer_attribute names[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                     CU_POINTER_ATTRIBUTE_IS_MANAGED};
      void* values[] = {&type, &ordinal, &managed};
      return api_.PointerGetAttributes(3, names, values, inside);
    });
    Ask("MemGetAddressRange_" + label, [&](int) {
      CUdeviceptr base;
      size_t size;
      return api_.MemGetAddressRange(&base, &size, inside);
    });
    GPUROOM_CHECK(api_.MemFree(pointer));
  }

  const Api& api_;
  CUdevice device_;
  CUstream stream_;
  Report& report_;
  int calls_;
  int batches_;
};

}  // namespace
}  // namespace gpuroom::bench

int main(int argc, char** argv) {
  using namespace gpuroom::bench;
  Options options(argc, argv, {"calls", "batches", "device", "lookup"});
  Report report("call_overhead");
  Program program(options.LookupKind(), static_cast<int>(options.Number("device", 0)));
  CallOverhead(program, report, static_cast<int>(options.Number("calls", 512)),
               static_cast<int>(options.Number("batches", 61)))
      .Run();
  report.Figure("gpuroom_loaded", HasGpuroom());
  return report.Finish();
}
