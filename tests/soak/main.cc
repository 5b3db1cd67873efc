// The storm: random operations on memory by several threads, while driver calls fail
// and memory moves, with every content checked. Ends with a table of what was done; on failure
// with the seed, by which one thread does the same operations again.
#include <CLI/CLI.hpp>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "walker.h"

namespace gpuroom::soak {
namespace {

using shim_test::Cu;

constexpr uint64_t kEnoughToMove =
    100000;  // operations after which memory must have moved (some 5 times in 30,000)

bool ReadSettings(int argc, char** argv, Settings* settings, int* status) {
  CLI::App app("A storm of memory operations on the simulated driver");
  app.add_option("--seed", settings->seed, "of the random choices");
  app.add_option("--operations", settings->operations, "of all threads together; 0: until the time is up");
  app.add_option("--seconds", settings->seconds, "to run at most; 0: until the operations are done");
  app.add_option("--threads", settings->threads)->check(CLI::Range(1, 64));
  app.add_option("--devices", settings->devices)->check(CLI::Range(1, 16));
  app.add_option("--progress", settings->progress, "operations between two lines of progress; 0: none");
  app.add_option("--failures", settings->failures, "whether driver calls are made to fail");
  app.add_flag("--trace", settings->trace, "say on stderr what becomes of blocks");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    *status = app.exit(error);
    return false;
  }
  if (settings->operations > 0 || settings->seconds > 0) return true;
  std::fprintf(stderr, "give --operations or --seconds, or the storm never ends\n");
  *status = 2;
  return false;
}

void PrintTally(const Shared& shared) {
  std::printf("%-16s %10s %10s %10s %12s %10s %10s\n", "operation", "done", "no memory", "busy",
              "unsupported", "failed", "idle");
  const auto& operations = Walker::Operations();
  for (size_t i = 0; i < operations.size(); ++i) {
    std::printf("%-16s", operations[i].name);
    for (size_t outcome = 0; outcome < kOutcomes; ++outcome) {
      std::printf(outcome == 3 ? " %12" PRIu64 : " %10" PRIu64,
                  shared.Counted(i, static_cast<Outcome>(outcome)));
    }
    std::printf("\n");
  }
  std::printf("%" PRIu64 " operations; %" PRIu64 " cells verified, %" PRIu64
              " MiB migrated on request, %" PRIu64 " blocks seen moved by themselves\n",
              shared.done(), shared.verified.load(), shared.migrated.load() / kMiB,
              shared.moved_by_itself.load());
}

// Handles of host chunks that are kept for reuse, as GPUROOM_HOST_KEEP has it, are nothing lost.
bool OnlyKept(const std::string& leaks) {
  const char* keep = std::getenv("GPUROOM_HOST_KEEP");
  if (keep == nullptr || shim_test::GetSim().used(-1) > std::strtoull(keep, nullptr, 10))
    return leaks.empty();
  std::istringstream lines(leaks);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("handle", 0) != 0) return false;
  }
  return true;
}

// What is left must be what was there before; the next request gives back what could not be then.
bool CheckEnd(const Settings& settings, const std::vector<uint64_t>& free_before) {
  bool right = true;
  for (int device = 0; device < static_cast<int>(settings.devices); ++device) {
    shim_test::UseDevice(device);
    CUdeviceptr p = 0;
    if (Cu().MemAlloc(&p, 4 * kMiB) != CUDA_SUCCESS || Cu().MemFree(p) != CUDA_SUCCESS) {
      std::fprintf(stderr, "nothing can be allocated any more on device %d\n", device);
      right = false;
    }
    CUmemoryPool pool = nullptr;
    if (Cu().DeviceGetDefaultMemPool(&pool, device) == CUDA_SUCCESS) Cu().MemPoolTrimTo(pool, 0);
    const uint64_t before = free_before[static_cast<size_t>(device)];
    const uint64_t after = shim_test::MemInfo().free;
    if (after != before) {
      std::fprintf(stderr, "device %d had %" PRIu64 " bytes free before and %" PRIu64 " after\n", device,
                   before, after);
      right = false;
    }
  }
  const std::string leaks = shim_test::Leaks();
  const std::string misuse = shim_test::StrictErrors();
  const bool lost = !OnlyKept(leaks);
  if (lost) std::fprintf(stderr, "left behind:\n%s\n", leaks.c_str());
  if (!misuse.empty()) std::fprintf(stderr, "misuse of the driver:\n%s\n", misuse.c_str());
  return right && !lost && misuse.empty();
}

// That the storm did what it is for.
bool CheckTally(const Shared& shared) {
  if (shared.done() < kEnoughToMove || shared.library.range_migrate == nullptr) return true;
  if (shared.migrated > 0 && shared.moved_by_itself > 0 && shared.Counted(Outcome::kNoMemory) > 0)
    return true;
  std::fprintf(stderr, "nothing was migrated, or displaced, or refused: the storm is too gentle\n");
  return false;
}

int Main(const Settings& settings) {
  std::vector<uint64_t> free_before;
  const int devices = static_cast<int>(settings.devices);
  for (int device = 0; device < devices; ++device) {
    shim_test::UseDevice(device);
    shim_test::Spin(1);
    Cu().CtxSynchronize();
    shim_test::MemInfo();  // a device in use is no peer's to use
  }
  for (int device = 0; device < devices; ++device) {
    shim_test::UseDevice(device);
    free_before.push_back(shim_test::MemInfo().free);
  }
  std::printf("seed %" PRIu64 ", %" PRIu64 " threads, %" PRIu64 " devices\n", settings.seed, settings.threads,
              settings.devices);
  std::fflush(stdout);
  Shared shared(settings, Walker::Operations().size());
  std::vector<std::unique_ptr<Walker>> walkers;
  for (uint64_t i = 0; i < settings.threads; ++i) walkers.push_back(std::make_unique<Walker>(shared, i));
  std::vector<std::thread> threads;
  for (const auto& walker : walkers) threads.emplace_back([&walker] { walker->Run(); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& walker : walkers) walker->Finish();
  PrintTally(shared);
  const bool clean = CheckEnd(settings, free_before);
  if (!clean) std::fprintf(stderr, "the storm failed at its end: seed %" PRIu64 "\n", settings.seed);
  return clean && CheckTally(shared) ? 0 : 1;
}

}  // namespace
}  // namespace gpuroom::soak

int main(int argc, char** argv) {
  gpuroom::soak::Settings settings;
  int status = 0;
  if (!gpuroom::soak::ReadSettings(argc, argv, &settings, &status)) return status;
  return gpuroom::soak::Main(settings);
}
