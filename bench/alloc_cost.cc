// Microseconds for cuMemAlloc + cuMemFree by size. With --fill the device is
// filled first, so that a limit makes the measured allocation spill; with
// gpuroom loaded, host_MiB says how much of the measured one really did.
// fresh is the first allocation of the process at that size, cached the median
// of those after it, which may find host chunks kept for reuse.
#include <cstdio>

#include "driver_program.h"

namespace gpuroom::bench {
namespace {

struct Cost {
  double microseconds = 0;
  double host_mib = 0;
};

Cost Measure(const Api& api, uint64_t bytes) {
  CUdeviceptr pointer = 0;
  double start = NowSeconds();
  GPUROOM_CHECK(api.MemAlloc(&pointer, bytes));
  double allocated = NowSeconds();
  int64_t host_bytes = HostBytes(pointer);
  double before_free = NowSeconds();
  GPUROOM_CHECK(api.MemFree(pointer));
  double seconds = (allocated - start) + (NowSeconds() - before_free);
  return {seconds * 1e6, host_bytes < 0 ? 0 : static_cast<double>(host_bytes) / (1 << 20)};
}

// Takes device memory in pieces until `bytes` are held or a piece went to the
// host, which is when there is no room on the device for the next one either.
void FillDevice(const Api& api, uint64_t bytes) {
  constexpr uint64_t kPiece = uint64_t{16} << 20;
  for (uint64_t held = 0; held + kPiece <= bytes; held += kPiece) {
    CUdeviceptr pointer = 0;
    GPUROOM_CHECK(api.MemAlloc(&pointer, kPiece));
    if (HostBytes(pointer) == static_cast<int64_t>(kPiece)) return;
  }
}

}  // namespace
}  // namespace gpuroom::bench

int main(int argc, char** argv) {
  using namespace gpuroom::bench;
  Options options(argc, argv, {"size", "fill", "repeats", "device", "lookup"});
  Program program(options.LookupKind(), static_cast<int>(options.Number("device", 0)));
  Report report("alloc_cost");
  uint64_t bytes = options.Bytes("size", uint64_t{64} << 20);
  FillDevice(program.api(), options.Bytes("fill", 0));
  Cost fresh = Measure(program.api(), bytes);
  std::vector<double> cached;
  double host_mib = fresh.host_mib;
  for (uint64_t i = 0; i < options.Number("repeats", 9); ++i) {
    Cost cost = Measure(program.api(), bytes);
    cached.push_back(cost.microseconds);
    host_mib = cost.host_mib;
  }
  report.Figure("size_MiB", static_cast<double>(bytes) / (1 << 20));
  report.Figure("fresh_us", fresh.microseconds);
  report.Figure("fresh_host_MiB", fresh.host_mib);
  report.Figure("cached_us", Median(cached));
  report.Figure("cached_host_MiB", host_mib);
  report.Figure("gpuroom_loaded", HasGpuroom());
  return report.Finish();
}
