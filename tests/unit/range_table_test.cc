#include "range/range_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <random>
#include <thread>

namespace gpuroom {
namespace {

std::unique_ptr<Range> MakeRange(CUdeviceptr va, uint64_t bytes, CUdevice device = 0) {
  auto range = std::make_unique<Range>();
  range->va = va;
  range->bytes = bytes;
  range->requested = bytes - 1;
  range->device = device;
  return range;
}

TEST(RangeTable, FindsEveryAddressInsideAndNoneOutside) {
  RangeTable table;
  RangeInfo info;
  EXPECT_FALSE(table.Find(0, &info));
  EXPECT_FALSE(table.MayHold(0));
  table.Insert(MakeRange(0x10000000, 0x400000));
  table.Insert(MakeRange(0x20000000, 0x400000));
  for (const CUdeviceptr at : {0x10000000, 0x10000001, 0x103fffff}) {
    ASSERT_TRUE(table.Find(at, &info)) << at;
    EXPECT_EQ(info.va, 0x10000000u);
    EXPECT_EQ(info.requested, 0x3fffffu);
  }
  for (const CUdeviceptr at : {0x0fffffff, 0x10400000, 0x1fffffff, 0x20400000})
    EXPECT_FALSE(table.Find(at, &info));
  EXPECT_FALSE(table.Find(0, &info));
  EXPECT_FALSE(table.Find(UINT64_MAX, &info));
}

TEST(RangeTable, TakesOnlyByTheFirstAddress) {
  RangeTable table;
  table.Insert(MakeRange(0x10000000, 0x400000));
  EXPECT_EQ(table.Take(0x10000001), nullptr);
  EXPECT_EQ(table.Take(0x20000000), nullptr);
  const std::unique_ptr<Range> range = table.Take(0x10000000);
  ASSERT_NE(range, nullptr);
  EXPECT_EQ(range->bytes, 0x400000u);
  EXPECT_EQ(table.Take(0x10000000), nullptr);
}

TEST(RangeTable, ListsTheRangesOfOneDevice) {
  RangeTable table;
  table.Insert(MakeRange(0x10000000, 0x400000, 0));
  table.Insert(MakeRange(0x20000000, 0x400000, 1));
  table.Insert(MakeRange(0x30000000, 0x400000, 0));
  size_t count = 0;
  table.WithRangesOf(0, [&](const std::vector<Range*>& ranges) { count = ranges.size(); });
  EXPECT_EQ(count, 2u);
  EXPECT_EQ(table.TakeAll(0).size(), 2u);
  EXPECT_EQ(table.TakeAll(0).size(), 0u);
  EXPECT_NE(table.Take(0x20000000), nullptr);
}

TEST(RangeTable, AgreesWithAModelOverRandomOperations) {
  RangeTable table;
  std::map<CUdeviceptr, uint64_t> model;
  std::mt19937_64 random(7);
  for (int i = 0; i < 100'000; ++i) {
    const CUdeviceptr slot = 0x7000'0000'0000 + (random() % 300) * (64 * kMiB);
    const auto found = model.find(slot);
    switch (random() % 3) {
      case 0:
        if (found != model.end()) break;
        model[slot] = (1 + random() % 32) * kGranularity;
        table.Insert(MakeRange(slot, model[slot]));
        break;
      case 1:
        ASSERT_EQ(table.Take(slot) != nullptr, found != model.end());
        if (found != model.end()) model.erase(found);
        break;
      default: {
        const uint64_t offset = random() % (64 * kMiB);
        RangeInfo info;
        ASSERT_EQ(table.Find(slot + offset, &info), found != model.end() && offset < found->second);
      }
    }
  }
}

TEST(RangeTable, AReaderSeesItsRangeWhileOthersComeAndGo) {
  RangeTable table;
  // Insertions below and above widen the window under the readers' feet.
  constexpr CUdeviceptr kMine = 0x7000'0000'0000;
  table.Insert(MakeRange(kMine, kGranularity));
  std::atomic<bool> stop{false};
  std::atomic<int> missed{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      RangeInfo info;
      while (!stop) missed += table.Find(kMine + 5, &info) ? 0 : 1;
    });
  }
  for (CUdeviceptr i = 1; i <= 3000; ++i) {
    table.Insert(MakeRange(kMine - i * kGranularity, kGranularity));
    table.Insert(MakeRange(kMine + i * kGranularity, kGranularity));
    if (i % 2 == 0) table.Take(kMine - i * kGranularity);
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(missed, 0);
}

}  // namespace
}  // namespace gpuroom
