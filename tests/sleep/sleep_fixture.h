// Two simulated devices and a host with limits, and memory on them whose contents are known.
#pragma once

#include <cuda.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "driver/scrap.h"
#include "gpuroom_sim.h"
#include "sleep/engine.h"
#include "sleep/sleeping_memory.h"
#include "sleep/system_calls.h"

namespace gpuroom {

struct TestPiece {
  Tier tier;
  uint64_t mib;
};

// Memory as a program has it. Contents follow from `seed`.
struct TestMemory {
  Placed placed;
  int device = 0;
  uint64_t bytes = 0;
  uint64_t seed = 0;
};

class SleepTest : public ::testing::Test {
 protected:
  static constexpr int kDevices = 2;
  static constexpr uint64_t kHostLimit = 256 * kMiB;
  static constexpr uint64_t kDeviceLimit = 192 * kMiB;

  struct Device {
    CUcontext context = nullptr;
    CUfunction fill = nullptr;
    CUfunction verify = nullptr;
    CUdeviceptr bad = 0;
    std::optional<DeviceTier> tier;
    std::optional<PeerTier> peer;  // the other one's memory
    std::optional<ChunkSource> source;
  };

  void SetUp() override;
  void TearDown() override;

  // On `device`, filled, at `windows` addresses, for both devices to use.
  TestMemory* Make(int device, const std::vector<TestPiece>& pieces, int windows = 1);
  void Fill(TestMemory* memory, uint64_t seed);
  // Words that are not what they should be, seen through every window.
  uint64_t Wrong(const TestMemory& memory);
  void ExpectAllRight();
  void Free(TestMemory* memory);

  // Host chunks of these sizes that are kept.
  void Keep(const std::vector<uint64_t>& mib);
  // Has `device` alone see them, each by itself; -1: no device, as when they were created.
  void ShowKeptTo(CUdevice device);
  uint64_t HostClaimed() const { return share_->local.used(); }

  Status Sleep(SleepAction action) { return Sleep(action, Everything()); }
  Status Sleep(SleepAction action, const std::vector<TestMemory*>& what);
  Status Wake(bool lazy = false) { return Wake(lazy, Everything()); }
  Status Wake(bool lazy, const std::vector<TestMemory*>& what);
  std::vector<TestMemory*> Everything() const;
  void ExpectAwake(bool awake) const;
  static SleepingMemory& Asleep(const TestMemory& memory) {
    return *static_cast<SleepingMemory*>(memory.placed.asleep.get());
  }

  // Which chunks each has, as text.
  static std::string Chunks(const TestMemory& memory);

  Driver driver_;
  Device devices_[kDevices];
  std::optional<HostShare> share_;
  std::optional<HostTier> host_;
  std::vector<std::unique_ptr<TestMemory>> memories_;
  SleepSettings settings_;
  SleepCounts slept_;
  WakeCounts woke_;
  std::string directory_;
  int leaks_before_ = 0;
  const SystemCalls system_before_ = System();
};

}  // namespace gpuroom
