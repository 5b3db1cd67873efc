#include <gtest/gtest.h>

#include <random>
#include <thread>
#include <unordered_map>

#include "base/size.h"
#include "runtime/pointer_table.h"

namespace gpuroom {
namespace {

TEST(PointerTable, TakesWhatWasInsertedOnce) {
  PointerTable table;
  PointerRecord record;
  EXPECT_FALSE(table.Take(0, &record));
  EXPECT_FALSE(table.Take(4096, &record));
  table.Insert({4096, 17, 3});
  ASSERT_TRUE(table.Take(4096, &record));
  EXPECT_EQ(record.address, 4096u);
  EXPECT_EQ(record.bytes, 17u);
  EXPECT_EQ(record.device, 3);
  EXPECT_FALSE(table.Take(4096, &record));
}

// Address patterns as drivers give them out.
class PointerTableModel : public testing::TestWithParam<uint64_t> {};

TEST_P(PointerTableModel, AgreesOverRandomOperations) {
  const uint64_t step = GetParam();
  PointerTable table;
  std::unordered_map<CUdeviceptr, uint64_t> model;
  std::mt19937_64 random(step);
  for (int i = 0; i < 400'000; ++i) {
    // Phases of growing and of shrinking, so that probe chains get long and break up.
    const bool grow = random() % 100 < (i / 20'000 % 2 == 0 ? 70u : 30u);
    const CUdeviceptr address = 0x7f00'0000'0000 + (random() % 20'000) * step;
    const auto found = model.find(address);
    PointerRecord record;
    if (grow) {
      if (found != model.end()) continue;
      model[address] = random();
      table.Insert({address, model[address], static_cast<CUdevice>(model[address] % 3)});
    } else {
      ASSERT_EQ(table.Take(address, &record), found != model.end()) << i;
      if (found == model.end()) continue;
      ASSERT_EQ(record.address, address);
      ASSERT_EQ(record.bytes, found->second);
      model.erase(found);
    }
  }
  for (const auto& [address, bytes] : model) {
    PointerRecord record;
    ASSERT_TRUE(table.Take(address, &record));
    ASSERT_EQ(record.bytes, bytes);
    ASSERT_FALSE(table.Take(address, &record));
  }
}

INSTANTIATE_TEST_SUITE_P(Steps, PointerTableModel,
                         testing::Values(256, 512, 4096, 2 * kMiB, 32 * kMiB, kGiB));

TEST(PointerTable, TakesAllRecordsOfADevice) {
  PointerTable table;
  EXPECT_EQ(table.TakeAll(0), 0u);
  uint64_t bytes = 0;
  for (uint64_t i = 1; i <= 5000; ++i) {
    table.Insert({i * 512, i, static_cast<CUdevice>(i % 2)});
    if (i % 2 == 1) bytes += i;
  }
  EXPECT_EQ(table.TakeAll(1), bytes);
  EXPECT_EQ(table.TakeAll(1), 0u);
  PointerRecord record;
  for (uint64_t i = 1; i <= 5000; ++i) ASSERT_EQ(table.Take(i * 512, &record), i % 2 == 0);
}

TEST(PointerTable, ThreadsKeepTheirOwnRecords) {
  PointerTable table;
  std::vector<std::thread> threads;
  std::atomic<int> lost{0};
  for (uint64_t id = 0; id < 8; ++id) {
    threads.emplace_back([&, id] {
      for (uint64_t round = 0; round < 20; ++round) {
        for (uint64_t i = 1; i <= 300; ++i) table.Insert({(i * 8 + id) * 512, i, 0});
        PointerRecord record;
        for (uint64_t i = 1; i <= 300; ++i) {
          lost += table.Take((i * 8 + id) * 512, &record) && record.bytes == i ? 0 : 1;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(lost, 0);
}

}  // namespace
}  // namespace gpuroom
