#include "walker.h"

#include <cstdio>
#include <cstdlib>

#include "kernels.h"

namespace gpuroom::soak {

using shim_test::Cu;

namespace {

constexpr size_t kStreams = 4;
constexpr size_t kRemembered = 24;  // operations that a failure names

}  // namespace

const std::vector<Walker::Operation>& Walker::Operations() {
  static const std::vector<Operation> operations = {
      {"alloc large", 40, &Walker::AllocLarge},
      {"alloc small", 40, &Walker::AllocSmall},
      {"alloc async", 30, &Walker::AllocAsync},
      {"free", 80, &Walker::Free},
      {"map slot", 40, &Walker::MapSlot},
      {"unmap slot", 30, &Walker::UnmapSlot},
      {"map alias", 8, &Walker::MapAlias},
      {"exchange", 10, &Walker::Exchange},
      {"write", 260, &Walker::Write},
      {"copy", 60, &Walker::Copy},
      {"verify late", 180, &Walker::VerifySome},
      {"read back", 40, &Walker::ReadBack},
      {"synchronize", 50, &Walker::SyncStream},
      {"settle", 10, &Walker::Settle},
      {"migrate", 24, &Walker::MigrateOne},
      {"migrate batch", 6, &Walker::MigrateBatch},
      {"hint", 10, &Walker::SetHint},
      {"thread hint", 4, &Walker::SetThreadHint},
      {"describe", 60, &Walker::Describe},
      {"ask driver", 30, &Walker::AskDriver},
      {"capture", 8, &Walker::Capture},
      {"replay", 30, &Walker::Replay},
      {"drop graph", 5, &Walker::DropGraph},
      {"weather", 4, &Walker::ChangeWeather},
  };
  return operations;
}

Walker::Walker(Shared& shared, uint64_t id)
    : shared_(shared),
      id_(id),
      device_(static_cast<int>(id % shared.settings.devices)),
      random_(shared.settings.seed * 1000003 + id) {
  context_ = shim_test::UseDevice(device_);
  for (size_t i = 0; i < kStreams; ++i) {
    CUstream stream = nullptr;
    Insist([&] { return Cu().StreamCreate(&stream, i == 0 ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING); },
           "cuStreamCreate");
    streams_.push_back(stream);
  }
  CUmodule module = nullptr;
  Insist([&] { return Cu().ModuleLoadData(&module, samples::KernelsPtx()); }, "cuModuleLoadData");
  Insist([&] { return Cu().ModuleGetFunction(&fill_, module, "gpuroom_fill"); }, "cuModuleGetFunction");
  Insist([&] { return Cu().ModuleGetFunction(&verify_, module, "gpuroom_verify"); }, "cuModuleGetFunction");
  Insist([&] { return Cu().MemAlloc(&bad_, sizeof(uint64_t)); }, "cuMemAlloc");
  Insist([&] { return Cu().MemsetD8(bad_, 0, sizeof(uint64_t)); }, "cuMemsetD8");
  Reserve();
}

void Walker::Run() {
  Insist([&] { return Cu().CtxSetCurrent(context_); }, "cuCtxSetCurrent");
  unsigned total = 0;
  for (const Operation& operation : Operations()) total += operation.weight;
  while (shared_.Next()) {
    uint64_t choice = Random(total);
    size_t index = 0;
    while (choice >= Operations()[index].weight) choice -= Operations()[index++].weight;
    if (last_.size() == kRemembered) last_.erase(last_.begin());
    last_.push_back(Operations()[index].name);
    epoch_ = shared_.weather.epoch();
    shared_.Count(index, (this->*Operations()[index].run)());
    ++step_;
  }
  if (weather_ends_ != 0) shared_.weather.End();
  weather_ends_ = 0;
}

void Walker::Finish() {
  epoch_ = shared_.weather.epoch();
  last_.push_back("finish");
  Insist([&] { return Cu().CtxSetCurrent(context_); }, "cuCtxSetCurrent");
  while (std::unique_ptr<Block> block = shared_.mailbox.Take(static_cast<uint64_t>(device_))) {
    blocks_.push_back(std::move(block));
  }
  Settle();
  for (const auto& block : blocks_) {
    for (Cell& cell : block->cells) CheckNow(*block, cell);
  }
  while (!graphs_.empty()) DestroyGraph(graphs_.size() - 1);
  while (!blocks_.empty()) {
    if (FreeBlock(blocks_.back().get()) != Outcome::kDone) Fail("a block cannot be freed at the end");
  }
  GiveBackSegments();
  Insist([&] { return Cu().MemFree(bad_); }, "cuMemFree");
  for (const CUstream stream : streams_) {
    Insist([&] { return Cu().StreamSynchronize(stream); }, "cuStreamSynchronize");
    Insist([&] { return Cu().StreamDestroy(stream); }, "cuStreamDestroy");
  }
}

Block* Walker::Pick() { return blocks_.empty() ? nullptr : blocks_[Random(blocks_.size())].get(); }

Block* Walker::PickIf(const std::function<bool(const Block&)>& fits) {
  for (int tries = 0; tries < 8; ++tries) {
    Block* block = Pick();
    if (block != nullptr && fits(*block)) return block;
  }
  return nullptr;
}

bool Walker::Ok(CUresult result, const char* call) {
  if (result == CUDA_SUCCESS) return true;
  // The library goes without gpuroom where it cannot learn the device: the driver's own
  // allocations end a capture.
  const bool ended = capturing_ && (result == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED ||
                                    result == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  const bool injected = ended || result == CUDA_ERROR_OUT_OF_MEMORY || result == CUDA_ERROR_UNKNOWN;
  if (!injected || !MayFail()) Fail(std::string(call) + " gave " + shim_test::NameOf(result));
  return false;
}

Outcome Walker::Full(CUresult result, const char* call) {
  if (result == CUDA_ERROR_OUT_OF_MEMORY) return MayFail() ? Outcome::kFailed : Outcome::kNoMemory;
  return Ok(result, call) ? Outcome::kDone : Outcome::kFailed;
}

void Walker::Insist(const std::function<CUresult()>& call, const char* name) {
  for (int tries = 0; tries < 10000; ++tries) {
    if (Ok(call(), name)) return;
  }
  Fail(std::string(name) + " never succeeds");
}

void Walker::Trace(const char* what, const Block& block) const {
  if (!shared_.settings.trace) return;
  std::fprintf(stderr, "%llu.%llu %s %llx, %llu bytes, stream %zu\n", static_cast<unsigned long long>(id_),
               static_cast<unsigned long long>(step_), what, block.p,
               static_cast<unsigned long long>(block.bytes), block.stream);
}

void Walker::Fail(const std::string& what) {
  static std::mutex once;
  once.lock();  // one failure is told; the process ends with it
  std::string operations;
  for (const char* name : last_) operations += std::string(operations.empty() ? "" : ", ") + name;
  std::fprintf(
      stderr,
      "the storm failed: %s\n  seed %llu, %llu threads; thread %llu, its operation %llu, failures %s\n"
      "  last operations: %s\n",
      what.c_str(), static_cast<unsigned long long>(shared_.settings.seed),
      static_cast<unsigned long long>(shared_.settings.threads), static_cast<unsigned long long>(id_),
      static_cast<unsigned long long>(step_), MayFail() ? "injected" : "not injected", operations.c_str());
  std::fprintf(stderr, "%s\n", shim_test::StrictErrors().c_str());
  std::fflush(nullptr);
  std::_Exit(1);
}

}  // namespace gpuroom::soak
