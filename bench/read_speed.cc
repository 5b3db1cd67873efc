// GB/s at which one kernel sums a buffer, for every buffer of a row that
// together exceeds a limited device: those in HBM and those spilled. Every sum
// is checked, so a fast wrong answer is no figure.
#include <algorithm>
#include <cstdio>

#include "driver_program.h"

namespace gpuroom::bench {
namespace {

constexpr int kLaunches = 4;  // in one timing, so that starting a kernel does not count

struct Buffer {
  CUdeviceptr address = 0;
  double host_share = 0;
  double gb_per_second = 0;
};

// The best of `repeats` timings; *sum is what the last one added up.
double BestSpeed(Program& program, const Buffer& buffer, uint64_t bytes, CUdeviceptr out, int repeats,
                 uint64_t* sum) {
  double best = 0;
  for (int i = 0; i < repeats; ++i) {
    GPUROOM_CHECK(program.api().MemsetD32Async(out, 0, 2, program.stream()));
    GPUROOM_CHECK(program.api().StreamSynchronize(program.stream()));
    double start = NowSeconds();
    for (int launch = 0; launch < kLaunches; ++launch) {
      program.Sum(buffer.address, bytes, out, program.stream());
    }
    GPUROOM_CHECK(program.api().StreamSynchronize(program.stream()));
    best = std::max(best, kLaunches * static_cast<double>(bytes) / (NowSeconds() - start) / 1e9);
  }
  *sum = program.ReadWord(out);
  return best;
}

// What one sum over a buffer filled from `seed` gives, by the processor.
uint64_t ExpectedSum(uint64_t bytes, uint64_t seed) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < bytes / sizeof(uint64_t); ++i) sum += Mix(seed + i);
  return sum;
}

// Every buffer that lies in both: what it reads at depends on its share.
void ListMixed(Report& report, const std::vector<Buffer>& buffers) {
  int mixed = 0;
  for (const Buffer& buffer : buffers) {
    if (buffer.host_share == 0 || buffer.host_share > 0.999) continue;
    const std::string name = "mixed_" + std::to_string(mixed++);
    report.Figure(name + "_host_share", buffer.host_share);
    report.Figure(name + "_GBps", buffer.gb_per_second);
  }
  report.Figure("mixed_buffers", mixed);
}

void Summarise(Report& report, const std::vector<Buffer>& buffers, bool spilled) {
  std::vector<double> speeds;
  for (const Buffer& buffer : buffers) {
    if (spilled ? buffer.host_share > 0.999 : buffer.host_share == 0) speeds.push_back(buffer.gb_per_second);
  }
  std::string name = spilled ? "spilled" : "resident";
  report.Figure(name + "_buffers", static_cast<double>(speeds.size()));
  if (!speeds.empty()) report.Figure(name + "_GBps", Median(speeds));
}

}  // namespace
}  // namespace gpuroom::bench

int main(int argc, char** argv) {
  using namespace gpuroom::bench;
  Options options(argc, argv, {"size", "buffers", "repeats", "device", "lookup", "minimum"});
  Program program(options.LookupKind(), static_cast<int>(options.Number("device", 0)));
  program.LoadKernels();
  Report report("read_speed");
  uint64_t bytes = options.Bytes("size", uint64_t{1} << 30);
  CUdeviceptr out = 0;
  GPUROOM_CHECK(program.api().MemAlloc(&out, sizeof(uint64_t)));
  constexpr uint64_t kSeed = 7;
  const uint64_t expected = ExpectedSum(bytes, kSeed);
  std::vector<Buffer> buffers(options.Number("buffers", 8));
  for (Buffer& buffer : buffers) {
    GPUROOM_CHECK(program.api().MemAlloc(&buffer.address, bytes));
    program.Fill(buffer.address, bytes, kSeed, program.stream());
  }
  int wrong = 0;
  for (Buffer& buffer : buffers) {
    uint64_t sum = 0;
    int repeats = static_cast<int>(options.Number("repeats", 5));
    buffer.gb_per_second = BestSpeed(program, buffer, bytes, out, repeats, &sum);
    buffer.host_share =
        std::max<double>(0, static_cast<double>(HostBytes(buffer.address))) / static_cast<double>(bytes);
    if (sum != kLaunches * expected) ++wrong;
    std::fprintf(stderr, "host share %.3f: %.1f GB/s\n", buffer.host_share, buffer.gb_per_second);
  }
  report.Check("sums", wrong == 0, std::to_string(wrong) + " buffers have a wrong sum");
  Summarise(report, buffers, false);
  Summarise(report, buffers, true);
  ListMixed(report, buffers);
  report.Figure("gpuroom_loaded", HasGpuroom());
  return report.Finish();
}
