// Everything sleeps and wakes with its contents, at its addresses, in its tiers, and gives back what it held.
#include <cstring>
#include <filesystem>
#include <random>

#include "sleep_fixture.h"

namespace gpuroom {
namespace {

constexpr Tier kD = Tier::kDevice;
constexpr Tier kP = Tier::kPeer;
constexpr Tier kH = Tier::kHost;

class RoundTripTest : public SleepTest {
 protected:
  // 30 MiB, of which 4 are in host memory.
  void MakeMixed() {
    Make(0, {{kD, 4}, {kD, 6}});
    Make(0, {{kD, 2}, {kH, 4}, {kD, 4}}, 2);
    Make(0, {{kP, 4}, {kD, 2}});
    Make(1, {{kD, 4}});
  }
  uint64_t InUse() const {
    uint64_t sum = 0;
    for (const Device& device : devices_) sum += device.tier->budget().used();
    return sum;
  }
  void ExpectShapes() {
    const std::vector<std::string> shapes = {"d4 d6 ", "d2 h4 d4 ", "p4 d2 ", "d4 "};
    for (size_t i = 0; i < shapes.size(); ++i) EXPECT_EQ(Chunks(*memories_[i]), shapes[i]);
  }
};

struct KeptCase {
  const char* name;
  std::vector<uint64_t> mib;  // host chunks that are kept
  friend void PrintTo(const KeptCase& kept, std::ostream* out) { *out << kept.name; }
};

class KeptTest : public RoundTripTest, public testing::WithParamInterface<KeptCase> {};

TEST_P(KeptTest, ContentsComeBack) {
  MakeMixed();
  Keep(GetParam().mib);
  const uint64_t before = InUse();
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
    ExpectAwake(false);
    EXPECT_EQ(slept_.ranges, 4U);
    EXPECT_EQ(slept_.kept, 30 * kMiB);
    EXPECT_EQ(slept_.released, 26 * kMiB);
    EXPECT_EQ(slept_.on_disk + slept_.dropped, 0U);
    EXPECT_EQ(InUse(), 0U);
    EXPECT_EQ(gpuroom_sim_used(0) + gpuroom_sim_used(1), 2 * kGranularity);  // the test's own words
    EXPECT_EQ(Asleep(*memories_[1]).Bytes().kept, 10 * kMiB);
    ASSERT_TRUE(Wake().ok());
    EXPECT_EQ(woke_.ranges, 4U);
    EXPECT_EQ(woke_.restored, 30 * kMiB);
    EXPECT_EQ(woke_.fresh + woke_.on_host, 0U);
    EXPECT_EQ(InUse(), before);
    EXPECT_EQ(host_->in_use().used(), 4 * kMiB);
    ExpectShapes();
    ExpectAllRight();
    for (TestMemory* memory : Everything()) Fill(memory, memory->seed + 77);
  }
}

TEST_P(KeptTest, OneByOneInAnyOrder) {
  MakeMixed();
  Keep(GetParam().mib);
  for (TestMemory* memory : Everything()) ASSERT_TRUE(Sleep(SleepAction::kKeep, {memory}).ok());
  ExpectAwake(false);
  for (const size_t i : {2, 0, 3, 1}) {
    ASSERT_TRUE(Wake(false, {memories_[i].get()}).ok());
    EXPECT_EQ(Wrong(*memories_[i]), 0U);
  }
  ExpectShapes();
}

TEST_P(KeptTest, WakesInPartsFromOneSleep) {
  MakeMixed();
  Keep(GetParam().mib);
  ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
  for (const size_t i : {1, 3, 0, 2}) {
    ASSERT_TRUE(Wake(false, {memories_[i].get()}).ok());
    EXPECT_EQ(Wrong(*memories_[i]), 0U);
  }
  ExpectShapes();
}

TEST_P(KeptTest, LazyMapsWhatItCan) {
  MakeMixed();
  Keep(GetParam().mib);
  uint64_t whole = 0;
  ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
  for (const auto& memory : memories_) {
    memory->placed.wants_device = false;
    for (const Backup& backup : Asleep(*memory).backups) whole += backup.Whole() ? backup.bytes : 0;
  }
  ASSERT_TRUE(Wake(true).ok());
  // Up to three eighths are copied meanwhile.
  EXPECT_LE(woke_.on_host, whole);
  EXPECT_GE(woke_.on_host, whole / 8 * 5);
  EXPECT_EQ(woke_.restored, 30 * kMiB);
  EXPECT_EQ(InUse(), 26 * kMiB - woke_.on_host);
  uint64_t on_host = 0;
  for (const auto& memory : memories_) {
    on_host += memory->placed.host_bytes;
    EXPECT_EQ(BytesOf(memory->placed.chunks), memory->bytes);
  }
  EXPECT_EQ(on_host, woke_.on_host + 4 * kMiB);
  EXPECT_EQ(memories_[3]->placed.wants_device, memories_[3]->placed.host_bytes > 0);
  ExpectAllRight();
  // From host memory it sleeps as it lies there.
  ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
  ASSERT_TRUE(Wake().ok());
  ExpectAllRight();
}

// What comes first is copied while the rest is mapped; where HBM is short, all that can be stays outside.
TEST_F(RoundTripTest, LazyCopiesMeanwhileWhatFits) {
  for (int i = 0; i < 8; ++i) Make(0, {{kD, 4}});
  for (int i = 0; i < 8; ++i) Keep({4});
  ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
  ASSERT_TRUE(Wake(true).ok());
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(Chunks(*memories_[i]), i < 3 ? "d4 " : "h4 ") << i;
  EXPECT_EQ(woke_.on_host, 20 * kMiB);
  ExpectAllRight();
  for (TestMemory* memory : Everything()) Free(memory);
  memories_.clear();
  for (int i = 0; i < 8; ++i) Make(0, {{kD, 4}});
  ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
  const uint64_t left = 6 * kMiB;
  const Result<Chunk> others = devices_[0].tier->Create(kDeviceLimit - InUse() - left);
  ASSERT_TRUE(others.ok());
  ASSERT_TRUE(Wake(true).ok());
  EXPECT_EQ(woke_.on_host, 28 * kMiB);
  ExpectAllRight();
  ASSERT_TRUE(devices_[0].tier->Release(*others).ok());
}

TEST_P(KeptTest, FreedWhileAsleep) {
  MakeMixed();
  Keep(GetParam().mib);
  const uint64_t kept = host_->kept_bytes();
  ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
  for (const size_t i : {1, 0, 3, 2}) Free(memories_[i].get());
  memories_.clear();
  EXPECT_EQ(host_->in_use().used(), 0U);
  EXPECT_EQ(HostClaimed(), host_->kept_bytes());
  EXPECT_EQ(host_->kept_bytes(), kept + 4 * kMiB);  // the chunk that was spilled, too
}

TEST_P(KeptTest, ComparesChecksums) {
  settings_.verify = true;
  MakeMixed();
  Keep(GetParam().mib);
  for (const bool lazy : {false, true}) {
    ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
    ASSERT_TRUE(Wake(lazy).ok());
    ExpectAllRight();
  }
}

TEST_P(KeptTest, FindsAFlippedByte) {
  settings_.verify = true;
  MakeMixed();
  Keep(GetParam().mib);
  ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
  // In each backup of the first, whether in a chunk or in ordinary memory.
  SleepingMemory& memory = Asleep(*memories_[0]);
  ASSERT_EQ(cuCtxSetCurrent(devices_[0].context), CUDA_SUCCESS);
  for (Backup& backup : memory.backups) {
    const uint64_t at = backup.at + backup.bytes / 2 + 3;
    const auto flip = [&] {
      char byte = 0;
      if (backup.chunk == nullptr) {
        memory.block->data()[at] ^= 16;
        return;
      }
      ASSERT_EQ(cuMemcpyDtoH(&byte, backup.chunk->va() + at, 1), CUDA_SUCCESS);
      byte ^= 16;
      ASSERT_EQ(cuMemcpyHtoD(backup.chunk->va() + at, &byte, 1), CUDA_SUCCESS);
    };
    flip();
    const Status status = Wake();
    EXPECT_EQ(status.code(), Code::kSystem) << status.what();
    EXPECT_NE(std::strstr(status.what(), "checksum"), nullptr);
    ExpectAwake(false);
    EXPECT_EQ(InUse(), 0U);
    flip();
  }
  ASSERT_TRUE(Wake().ok());
  ExpectShapes();
  ExpectAllRight();
}

INSTANTIATE_TEST_SUITE_P(Kept, KeptTest,
                         testing::Values(KeptCase{"None", {}}, KeptCase{"Some", {2, 2, 4}},
                                         KeptCase{"Small", {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}},
                                         KeptCase{"Fitting", {10, 2, 4, 6, 4}}, KeptCase{"Large", {64}},
                                         KeptCase{"LargeButFew", {14}}, KeptCase{"Mixed", {2, 10, 12, 8}}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_F(RoundTripTest, Disk) {
  MakeMixed();
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(Sleep(SleepAction::kDisk).ok());
    EXPECT_EQ(slept_.on_disk, 30 * kMiB);
    EXPECT_EQ(slept_.released, 26 * kMiB);
    EXPECT_EQ(Asleep(*memories_[1]).Bytes().on_disk, 10 * kMiB);
    EXPECT_EQ(InUse(), 0U);
    EXPECT_EQ(host_->in_use().used(), 0U);
    EXPECT_TRUE(std::filesystem::is_empty(directory_));  // nothing that a killed process would leave
    ASSERT_TRUE(Wake(round == 1).ok());
    EXPECT_EQ(woke_.restored, 30 * kMiB);
    EXPECT_EQ(woke_.on_host, 0U);
    ExpectShapes();
    ExpectAllRight();
    for (TestMemory* memory : Everything()) Fill(memory, memory->seed + 5);
  }
}

TEST_F(RoundTripTest, DiskInParts) {
  MakeMixed();
  ASSERT_TRUE(Sleep(SleepAction::kDisk).ok());
  Free(memories_[0].get());
  memories_.erase(memories_.begin());
  for (const size_t i : {2, 0, 1}) {
    ASSERT_TRUE(Wake(false, {memories_[i].get()}).ok());
    EXPECT_EQ(Wrong(*memories_[i]), 0U);
  }
}

TEST_F(RoundTripTest, Drop) {
  MakeMixed();
  ASSERT_TRUE(Sleep(SleepAction::kDrop).ok());
  EXPECT_EQ(slept_.dropped, 30 * kMiB);
  EXPECT_EQ(slept_.released, 26 * kMiB);
  EXPECT_EQ(slept_.kept + slept_.on_disk, 0U);
  EXPECT_EQ(Asleep(*memories_[1]).Bytes().dropped, 10 * kMiB);
  EXPECT_EQ(InUse() + host_->in_use().used(), 0U);
  ASSERT_TRUE(Wake().ok());
  EXPECT_EQ(woke_.fresh, 30 * kMiB);
  EXPECT_EQ(woke_.restored, 0U);
  ExpectShapes();
  for (TestMemory* memory : Everything()) Fill(memory, memory->seed + 9);
  ExpectAllRight();
}

TEST_F(RoundTripTest, ManySlicesThroughAFewBuffers) {
  Make(0, {{kD, 64}, {kD, 62}});
  Make(1, {{kD, 10}});
  // Of the host limit the backups leave one buffer's worth.
  const Result<Chunk> taken = host_->Create(kHostLimit - (136 + 10) * kMiB);
  ASSERT_TRUE(taken.ok());
  ASSERT_TRUE(Sleep(SleepAction::kKeep).ok());
  ASSERT_TRUE(Wake().ok());
  ExpectAllRight();
  ASSERT_TRUE(host_->Release(*taken).ok());
}

TEST_F(RoundTripTest, ManySlicesThroughManyBuffers) {
  Make(0, {{kD, 64}, {kD, 64}, {kD, 22}});
  for (const SleepAction action : {SleepAction::kKeep, SleepAction::kDisk}) {
    ASSERT_TRUE(Sleep(action).ok());
    ASSERT_TRUE(Wake().ok());
    ExpectAllRight();
  }
}

// Anything asleep beside anything awake, in any order.
TEST_F(RoundTripTest, RandomWalk) {
  std::mt19937_64 random(7);
  const auto pick = [&](uint64_t n) { return random() % n; };
  for (int step = 0; step < 60 && !HasFailure(); ++step) {
    SCOPED_TRACE(step);
    if (memories_.size() < 6) {
      std::vector<TestPiece> pieces;
      for (uint64_t i = 0; i <= pick(4); ++i) {
        pieces.push_back({pick(3) == 0 ? kH : pick(4) == 0 ? kP : kD, 2 * (1 + pick(3))});
      }
      Make(static_cast<int>(pick(2)), pieces, 1 + static_cast<int>(pick(2)));
    }
    if (pick(3) == 0) host_->CreateKept(2 * (1 + pick(8)) * kMiB);
    settings_.verify = pick(2) == 0;
    std::vector<TestMemory*> awake;
    std::vector<TestMemory*> asleep;
    for (TestMemory* memory : Everything()) {
      if (pick(2) == 0) (memory->placed.awake() ? awake : asleep).push_back(memory);
    }
    const SleepAction action = pick(3) == 0 ? SleepAction::kDisk : SleepAction::kKeep;
    ASSERT_TRUE(Sleep(action, awake).ok());
    ASSERT_TRUE(Wake(pick(2) == 0, asleep).ok());
    for (const TestMemory* memory : Everything()) {
      EXPECT_TRUE(!memory->placed.awake() || Wrong(*memory) == 0);
    }
    if (pick(4) != 0) continue;
    const size_t gone = pick(memories_.size());
    Free(memories_[gone].get());
    memories_.erase(memories_.begin() + static_cast<ptrdiff_t>(gone));
  }
}

// Calls cost, those that map most: docs/measurements.md.
TEST_F(RoundTripTest, MakesNoMoreCallsThanItNeeds) {
  constexpr size_t kRanges = 5;
  for (size_t i = 0; i < kRanges; ++i) Make(0, {{kD, 4}, {kD, 4}});
  for (size_t i = 0; i < kRanges; ++i) Keep({8});
  const auto calls = [](const char* name) { return gpuroom_sim_call_count(name); };
  const auto expect_calls = [&](const auto& step,
                                const std::vector<std::pair<const char*, uint64_t>>& expected) {
    std::vector<uint64_t> before;
    for (const auto& [name, count] : expected) before.push_back(calls(name));
    ASSERT_TRUE(step().ok());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(calls(expected[i].first) - before[i], expected[i].second) << expected[i].first;
    }
  };
  expect_calls([&] { return Sleep(SleepAction::kKeep); }, {{"cuMemUnmap", kRanges},
                                                           {"cuMemRelease", 2 * kRanges},
                                                           {"cuMemCreate", 0},
                                                           {"cuMemMap", kRanges},
                                                           {"cuMemSetAccess", 1},
                                                           {"cuMemAddressReserve", 1},
                                                           {"cuMemcpyDtoDAsync", kRanges},
                                                           {"cuMemHostAlloc", 0}});
  // The chunks stay shown.
  expect_calls([&] { return Wake(); }, {{"cuMemUnmap", 0},
                                        {"cuMemRelease", 0},
                                        {"cuMemCreate", 2 * kRanges},
                                        {"cuMemMap", 2 * kRanges},
                                        {"cuMemSetAccess", kRanges},
                                        {"cuMemAddressReserve", 0},
                                        {"cuMemAddressFree", 0},
                                        {"cuMemcpyDtoDAsync", kRanges},
                                        {"cuMemHostAlloc", 0}});
  expect_calls(
      [&] { return Sleep(SleepAction::kKeep); },
      {{"cuMemUnmap", kRanges}, {"cuMemMap", 0}, {"cuMemSetAccess", 0}, {"cuMemcpyDtoDAsync", kRanges}});
  ASSERT_TRUE(Wake().ok());
  ExpectAllRight();
}

TEST_F(RoundTripTest, WhatCanSleep) {
  TestMemory* memory = Make(0, {{kD, 2}});
  Placed& placed = memory->placed;
  EXPECT_TRUE(Sleepable(placed));
  placed.pins = 1;
  EXPECT_FALSE(Sleepable(placed));
  placed.pins = 0;
  placed.windows.front().writers = 2;
  EXPECT_FALSE(Sleepable(placed));
  placed.windows.front().writers = 3;
  ASSERT_TRUE(Sleep(SleepAction::kDrop).ok());
  EXPECT_FALSE(Sleepable(placed));
  ASSERT_TRUE(Wake().ok());
}

}  // namespace
}  // namespace gpuroom
