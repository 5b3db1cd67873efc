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

class RangeTableTest : public testing::Test {
 protected:
  AddressMap map_;
  RangeTable table{map_, AddressMap::Kind::kRange};
};

TEST_F(RangeTableTest, FindsEveryAddressInsideAndNoneOutside) {
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

TEST_F(RangeTableTest, TakesOnlyByTheFirstAddress) {
  table.Insert(MakeRange(0x10000000, 0x400000));
  EXPECT_EQ(table.Take(0x10000001), nullptr);
  EXPECT_EQ(table.Take(0x20000000), nullptr);
  const std::unique_ptr<Range> range = table.Take(0x10000000);
  ASSERT_NE(range, nullptr);
  EXPECT_EQ(range->bytes, 0x400000u);
  EXPECT_EQ(table.Take(0x10000000), nullptr);
}

TEST_F(RangeTableTest, ListsTheRangesOfOneDevice) {
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

TEST_F(RangeTableTest, AgreesWithAModelOverRandomOperations) {
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

TEST_F(RangeTableTest, AReaderSeesItsRangeWhileOthersComeAndGo) {
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

TEST_F(RangeTableTest, FindsARangeByItsOrderAndCountsBytesByDevice) {
  std::unique_ptr<Range> range = MakeRange(0x10000000, 0x400000, 1);
  const uint64_t order = range->order;
  table.Insert(std::move(range));
  table.Insert(MakeRange(0x20000000, 0x200000, 1));
  EXPECT_EQ(table.BytesOf(0), 0u);
  EXPECT_EQ(table.BytesOf(1), 0x600000u);
  CUdeviceptr va = 0;
  EXPECT_TRUE(table.WithOrder(order, [&](Range& found) { va = found.va; }));
  EXPECT_EQ(va, 0x10000000u);
  EXPECT_NE(table.Take(0x10000000), nullptr);
  EXPECT_FALSE(table.WithOrder(order, [](Range&) {}));
  EXPECT_EQ(table.BytesOf(1), 0x200000u);
}

// What others lend lies in the same map and is nobody's to free, to hint or to move.
TEST_F(RangeTableTest, AnImportIsNoRangeOfTheProcess) {
  RangeTable imports(map_, AddressMap::Kind::kImport);
  imports.Insert(MakeRange(0x10000000, 0x400000));
  RangeInfo info;
  EXPECT_TRUE(imports.Find(0x10000001, &info));
  EXPECT_FALSE(table.Find(0x10000001, &info));
  EXPECT_EQ(table.Take(0x10000000), nullptr);
  EXPECT_FALSE(map_.WithPlaced(0x10000000, [](Placed&, CUdeviceptr) {}));
  EXPECT_EQ(imports.TakeAll(0).size(), 1u);
}

}  // namespace
}  // namespace gpuroom
