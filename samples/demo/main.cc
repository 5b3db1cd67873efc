// gpuroom-demo: an ordinary CUDA driver-API program that fills as much device
// memory as it is told to, verifies every word, and times reading it. It links
// nothing of gpuroom and runs without it; under `gpuroom run` it looks up
// gpuroom_describe to say where each buffer lies.
#include <dlfcn.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "gpu.h"
#include "gpuroom/gpuroom.h"
#include "report.h"

namespace gpuroom::samples {
namespace {

constexpr uint64_t kGranule = uint64_t{2} << 20;
constexpr uint64_t kSmallestBuffer = uint64_t{16} << 20;
constexpr uint64_t kBuffers = 28;  // so that 1.75 times anything gives 16 buffers for each 1.0
constexpr uint64_t kProbeWords = 512;
constexpr int kReads = 3;

volatile std::sig_atomic_t g_interrupted = 0;

void OnInterrupt(int) { g_interrupted = 1; }

struct Options {
  uint64_t bytes = 0;  // 0: nine tenths of what is free
  bool json = false;
};

struct Buffer {
  CUdeviceptr address = 0;
  uint64_t words = 0;
  uint64_t seed = 0;
};

// What the fill kernel writes (splitmix64), computed here a second time: the
// kernels cannot agree with each other on a wrong answer.
uint64_t Mix(uint64_t x) {
  uint64_t z = x + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

bool ParseOptions(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      options->json = true;
    } else if (std::strcmp(argv[i], "--bytes") == 0 && i + 1 < argc && argv[i + 1][0] >= '1' &&
               argv[i + 1][0] <= '9') {
      char* end = nullptr;
      options->bytes = std::strtoull(argv[++i], &end, 10);
      if (*end != '\0') return false;
    } else {
      return false;
    }
  }
  return true;
}

class Demo {
 public:
  Demo(Gpu& gpu, uint64_t bytes) : gpu_(gpu), bytes_(bytes) {}
  ~Demo() {
    for (const Buffer& buffer : buffers_) (void)gpu_.Free(buffer.address);
  }
  Demo(const Demo&) = delete;
  Demo& operator=(const Demo&) = delete;

  // All buffers are filled before any is verified: two that shared memory by
  // mistake would not both be right.
  CUresult Run(DemoResult* result) {
    CUresult status = AllocateAndFill();
    for (size_t i = 0; i < buffers_.size() && status == CUDA_SUCCESS && !g_interrupted; ++i) {
      result->buffers.emplace_back();
      status = Examine(buffers_[i], &result->buffers.back());
    }
    return status;
  }

  uint64_t allocated() const { return allocated_; }

 private:
  CUresult AllocateAndFill() {
    const uint64_t share = bytes_ / kBuffers / kGranule * kGranule;
    const uint64_t size = std::max(share, kSmallestBuffer);
    while (allocated_ < bytes_ && !g_interrupted) {
      Buffer buffer;
      const uint64_t left = bytes_ - allocated_;
      const uint64_t bytes = left < 2 * size ? left : size;  // the last takes the rest
      buffer.words = bytes / sizeof(uint64_t);
      buffer.seed = uint64_t{buffers_.size() + 1} << 40;
      CUresult status = gpu_.Allocate(bytes, &buffer.address);
      if (status != CUDA_SUCCESS) return status;
      buffers_.push_back(buffer);
      allocated_ += bytes;
      status = gpu_.Fill(buffer.address, buffer.words, buffer.seed);
      if (status != CUDA_SUCCESS) return status;
    }
    return CUDA_SUCCESS;
  }

  CUresult Examine(const Buffer& buffer, BufferResult* result) {
    result->address = buffer.address;
    result->bytes = buffer.words * sizeof(uint64_t);
    Place(result);
    CUresult status = gpu_.CountWrong(buffer.address, buffer.words, buffer.seed, &result->wrong_words);
    if (status == CUDA_SUCCESS) status = Probe(buffer, 0, result);
    if (status == CUDA_SUCCESS) status = Probe(buffer, buffer.words - kProbeWords, result);
    uint64_t first_sum = 0;
    for (int i = 0; i < kReads && status == CUDA_SUCCESS; ++i) {
      uint64_t sum = 0;
      double seconds = 0;
      status = gpu_.Sum(buffer.address, buffer.words, &sum, &seconds);
      if (i == 0) first_sum = sum;
      if (sum != first_sum) ++result->wrong_words;  // the contents changed between two reads
      result->seconds = i == 0 ? seconds : std::min(result->seconds, seconds);
    }
    return status;
  }

  static void Place(BufferResult* result) {
    static const auto describe =
        reinterpret_cast<decltype(&gpuroom_describe)>(dlsym(RTLD_DEFAULT, "gpuroom_describe"));
    gpuroom_placement placement = {};
    result->hbm_bytes = result->bytes;
    if (describe == nullptr || describe(result->address, &placement, sizeof placement) != 0) return;
    result->hbm_bytes = placement.device_bytes;
    result->host_bytes = placement.host_bytes;
  }

  // Copies some words to the host and compares them with the host's own sums.
  CUresult Probe(const Buffer& buffer, uint64_t first, BufferResult* result) {
    uint64_t words[kProbeWords] = {};
    const CUresult status = gpu_.Read(buffer.address + first * sizeof(uint64_t), words, kProbeWords);
    for (uint64_t i = 0; i < kProbeWords && status == CUDA_SUCCESS; ++i) {
      if (words[i] != Mix(buffer.seed + first + i)) ++result->wrong_words;
    }
    return status;
  }

  Gpu& gpu_;
  uint64_t bytes_;
  uint64_t allocated_ = 0;
  std::vector<Buffer> buffers_;
};

int Fail(const Gpu& gpu, CUresult status, uint64_t allocated) {
  if (status == CUDA_ERROR_OUT_OF_MEMORY) {
    std::fprintf(stderr,
                 "gpuroom-demo: device memory ran out after %" PRIu64
                 " MiB; ask for less with --bytes, or run it under "
                 "'gpuroom run'\n",
                 allocated >> 20);
  } else {
    std::fprintf(stderr, "gpuroom-demo: %s failed with CUDA error %d; 'gpuroom doctor' may tell why\n",
                 gpu.step(), static_cast<int>(status));
  }
  return 1;
}

int RunAll(const Options& options) {
  Gpu gpu;
  if (!gpu.Load()) {
    std::fprintf(stderr,
                 "gpuroom-demo: no %s on this machine; install the NVIDIA driver, or use 'gpuroom demo'\n",
                 gpu.step());
    return 3;
  }
  if (const CUresult status = gpu.Open(); status != CUDA_SUCCESS) {
    return status == CUDA_ERROR_OUT_OF_MEMORY ? Fail(gpu, status, 0) : (Fail(gpu, status, 0), 3);
  }
  const uint64_t bytes = options.bytes != 0 ? options.bytes : gpu.free() / 10 * 9;
  DemoResult result;
  result.gpu = gpu.name();
  result.simulated = gpu.simulated();
  result.under_gpuroom = dlsym(RTLD_DEFAULT, "gpuroom_describe") != nullptr;
  result.total_bytes = gpu.total();
  Demo demo(gpu, std::max(bytes / kGranule, kSmallestBuffer / kGranule) * kGranule);
  const CUresult status = demo.Run(&result);
  if (g_interrupted) return 1;
  if (status != CUDA_SUCCESS) return Fail(gpu, status, demo.allocated());
  options.json ? PrintJson(result) : PrintTable(result);
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::fprintf(stderr, "gpuroom-demo: the output cannot be written: %s\n", std::strerror(errno));
    return 1;
  }
  return result.WrongWords() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace gpuroom::samples

int main(int argc, char** argv) {
  using namespace gpuroom::samples;
  Options options;
  if (!ParseOptions(argc, argv, &options)) {
    std::fprintf(stderr, "usage: gpuroom-demo [--bytes N] [--json]\n");
    return 2;
  }
  // One Ctrl-C gives the memory back and ends; a second ends at once.
  struct sigaction action = {};
  sigaction(SIGINT, nullptr, &action);
  if (action.sa_handler == SIG_DFL) {
    action.sa_handler = OnInterrupt;
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigaction(SIGINT, &action, nullptr);
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const int status = RunAll(options);
  if (g_interrupted) {
    std::fprintf(stderr, "gpuroom-demo: interrupted; all memory was given back\n");
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);  // so that the shell sees a program that Ctrl-C ended
  }
  return status;
}
