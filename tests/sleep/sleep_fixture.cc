#include "sleep_fixture.h"

#include <dirent.h>
#include <unistd.h>

#include <cstdlib>

namespace gpuroom {
namespace {

constexpr LinkSpeeds kSpeeds{};

void Launch(CUfunction function, std::vector<uint64_t> arguments) {
  void* pointers[4] = {};
  for (size_t i = 0; i < arguments.size(); ++i) pointers[i] = &arguments[i];
  ASSERT_EQ(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, nullptr, pointers, nullptr), CUDA_SUCCESS);
}

int EntriesOf(const std::string& path) {
  DIR* directory = opendir(path.c_str());
  int count = 0;
  while (directory != nullptr && readdir(directory) != nullptr) ++count;
  if (directory != nullptr) closedir(directory);
  return count - 2;
}

}  // namespace

void SleepTest::SetUp() {
  Result<Driver> driver = BindDriver();
  ASSERT_TRUE(driver.ok()) << driver.status().what();
  driver_ = *driver;
  ASSERT_EQ(cuInit(0), CUDA_SUCCESS);
  share_.emplace(kHostLimit, kHostLimit, nullptr);
  host_.emplace(driver_, 0, *share_);
  for (int i = 0; i < kDevices; ++i) devices_[i].tier.emplace(driver_, i, kDeviceLimit, 0);
  for (int i = 0; i < kDevices; ++i) {
    Device& device = devices_[i];
    ASSERT_EQ(cuDevicePrimaryCtxRetain(&device.context, i), CUDA_SUCCESS);
    ASSERT_EQ(cuCtxSetCurrent(device.context), CUDA_SUCCESS);
    CUmodule module = nullptr;
    ASSERT_EQ(cuModuleLoadData(&module, "any image"), CUDA_SUCCESS);
    ASSERT_EQ(cuModuleGetFunction(&device.fill, module, "gpuroom_fill"), CUDA_SUCCESS);
    ASSERT_EQ(cuModuleGetFunction(&device.verify, module, "gpuroom_verify"), CUDA_SUCCESS);
    ASSERT_EQ(cuMemAlloc(&device.bad, 8), CUDA_SUCCESS);
    device.peer.emplace(*devices_[1 - i].tier, 64 * kMiB, false);
    device.source.emplace(driver_, *device.tier, *host_, kSpeeds);
    device.source->AddPeer(&*device.peer);
  }
  directory_ = testing::TempDir() + "gpuroom-sleep-XXXXXX";
  ASSERT_NE(mkdtemp(directory_.data()), nullptr);
  settings_.directory = directory_.c_str();
  leaks_before_ = gpuroom_sim_leaks(nullptr, 0);
}

void SleepTest::TearDown() {
  gpuroom_sim_fail(nullptr);
  System() = system_before_;
  for (auto& memory : memories_) Free(memory.get());
  RetryScrap();
  EXPECT_EQ(ScrapCount(), 0U);
  EXPECT_EQ(host_->in_use().used(), 0U);
  EXPECT_EQ(host_->lent_bytes(), 0U);
  EXPECT_EQ(HostClaimed(), host_->kept_bytes());
  host_->Trim();
  EXPECT_EQ(HostClaimed(), 0U);
  char text[4096] = {};
  EXPECT_EQ(gpuroom_sim_leaks(text, sizeof text), leaks_before_) << text;
  EXPECT_EQ(gpuroom_sim_strict_errors(text, sizeof text), 0) << text;
  for (Device& device : devices_) {
    EXPECT_EQ(device.tier->budget().used(), 0U);
    EXPECT_EQ(device.peer->in_use().used(), 0U);
    EXPECT_EQ(cuCtxSetCurrent(device.context), CUDA_SUCCESS);
    EXPECT_EQ(cuMemFree(device.bad), CUDA_SUCCESS);
  }
  EXPECT_EQ(EntriesOf(directory_), 0);
  rmdir(directory_.c_str());
}

TestMemory* SleepTest::Make(int device, const std::vector<TestPiece>& pieces, int windows) {
  memories_.push_back(std::make_unique<TestMemory>());
  TestMemory* memory = memories_.back().get();
  Placed& placed = memory->placed;
  memory->device = device;
  placed.device = device;
  placed.context = devices_[device].context;
  for (const TestPiece& piece : pieces) {
    const int place = piece.tier == Tier::kPeer ? 1 - device : device;
    const Result<Chunk> chunk = devices_[device].source->CreateChunk(piece.tier, place, piece.mib * kMiB);
    EXPECT_TRUE(chunk.ok()) << chunk.status().what();
    if (!chunk.ok()) return memory;
    placed.chunks.push_back(*chunk);
    memory->bytes += chunk->bytes;
  }
  for (int i = 0; i < windows; ++i) {
    CUdeviceptr va = 0;
    uint64_t mapped = 0;
    EXPECT_EQ(cuMemAddressReserve(&va, memory->bytes, 0, 0, 0), CUDA_SUCCESS);
    EXPECT_TRUE(MapChunks(driver_, va, placed.chunks, &mapped).ok());
    // The first for both to write, others for the owner alone, the last one to be read by the other.
    const Window window{va, i == 0 ? 3U : 1U << device, i == 0 ? 0U : 2U >> device};
    EXPECT_TRUE(SetAccess(driver_, va, mapped, window.writers, window.readers).ok());
    placed.windows.push_back(window);
  }
  placed.CountTiers();
  Fill(memory, 1000 * memories_.size());
  return memory;
}

void SleepTest::Fill(TestMemory* memory, uint64_t seed) {
  memory->seed = seed;
  const Device& device = devices_[memory->device];
  ASSERT_EQ(cuCtxSetCurrent(device.context), CUDA_SUCCESS);
  Launch(device.fill, {memory->placed.windows.front().va, memory->bytes / 8, seed});
  ASSERT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
}

uint64_t SleepTest::Wrong(const TestMemory& memory) {
  uint64_t sum = 0;
  for (const Device& device : devices_) {
    EXPECT_EQ(cuCtxSetCurrent(device.context), CUDA_SUCCESS);
    EXPECT_EQ(cuMemsetD32(device.bad, 0, 2), CUDA_SUCCESS);
    for (const Window& window : memory.placed.windows) {
      Launch(device.verify, {window.va, memory.bytes / 8, memory.seed, device.bad});
    }
    uint64_t wrong = 0;
    EXPECT_EQ(cuMemcpyDtoH(&wrong, device.bad, 8), CUDA_SUCCESS);
    sum += wrong;
  }
  return sum;
}

void SleepTest::ExpectAllRight() {
  ExpectAwake(true);
  for (const auto& memory : memories_) EXPECT_EQ(Wrong(*memory), 0U) << memory->seed;
}

void SleepTest::Free(TestMemory* memory) {
  for (const Window& window : memory->placed.windows) {
    if (memory->placed.awake()) {
      EXPECT_EQ(cuMemUnmap(window.va, memory->bytes), CUDA_SUCCESS);
    }
    EXPECT_EQ(cuMemAddressFree(window.va, memory->bytes), CUDA_SUCCESS);
  }
  memory->placed.windows.clear();
  memory->placed.asleep.reset();
  EXPECT_TRUE(devices_[memory->device].source->Release(&memory->placed.chunks).ok());
}

void SleepTest::Keep(const std::vector<uint64_t>& mib) {
  for (const uint64_t size : mib) ASSERT_TRUE(host_->CreateKept(size * kMiB));
}

void SleepTest::ShowKeptTo(CUdevice device) {
  std::vector<Chunk> kept;
  for (Chunk chunk; host_->TakeSmallestKept(&chunk);) kept.push_back(chunk);
  for (const Chunk& chunk : kept) {
    EXPECT_TRUE(host_->views().Drop(chunk).ok());
    EXPECT_TRUE(device < 0 || host_->views().Show({chunk}, device).ok());
    EXPECT_TRUE(host_->Release(chunk).ok());
  }
}

std::vector<TestMemory*> SleepTest::Everything() const {
  std::vector<TestMemory*> all;
  for (const auto& memory : memories_) all.push_back(memory.get());
  return all;
}

Status SleepTest::Sleep(SleepAction action, const std::vector<TestMemory*>& what) {
  std::vector<DeviceSleep> parts;
  for (int i = 0; i < kDevices; ++i) {
    DeviceSleep part{devices_[i].context, &*devices_[i].source, &*host_, {}};
    for (TestMemory* memory : what) {
      if (memory->device == i) part.items.push_back({&memory->placed, action});
    }
    if (!part.items.empty()) parts.push_back(part);
  }
  slept_ = {};
  return PutToSleep(driver_, settings_, &parts, &slept_);
}

Status SleepTest::Wake(bool lazy, const std::vector<TestMemory*>& what) {
  std::vector<DeviceWake> parts;
  for (int i = 0; i < kDevices; ++i) {
    DeviceWake part{devices_[i].context, &*devices_[i].source, {}};
    for (TestMemory* memory : what) {
      if (memory->device == i) part.placed.push_back(&memory->placed);
    }
    if (!part.placed.empty()) parts.push_back(part);
  }
  woke_ = {};
  return WakeUp(driver_, lazy, &parts, &woke_);
}

void SleepTest::ExpectAwake(bool awake) const {
  for (const auto& memory : memories_) {
    EXPECT_EQ(memory->placed.awake(), awake) << memory->seed;
    EXPECT_EQ(memory->placed.chunks.empty(), !awake) << memory->seed;
  }
}

std::string SleepTest::Chunks(const TestMemory& memory) {
  std::string text;
  for (const Chunk& chunk : memory.placed.chunks) {
    text += (chunk.tier == Tier::kDevice ? "d"
             : chunk.tier == Tier::kPeer ? "p"
                                         : "h") +
            std::to_string(chunk.bytes / kMiB) + " ";
  }
  return text;
}

}  // namespace gpuroom
