#include <gtest/gtest.h>

#include "runtime/handle_table.h"

namespace gpuroom {
namespace {

using Released = HandleTable::Released;

HandleRecord Record(CUmemGenericAllocationHandle handle, uint64_t bytes, Tier tier) {
  HandleRecord record;
  record.handle = handle;
  record.bytes = bytes;
  record.chunks = {{handle, bytes, tier}};
  record.CountTiers();
  return record;
}

class HandleTableTest : public testing::Test {
 protected:
  AddressMap map_;
  HandleTable table_{map_};
  HandleRecord out_;
  HandleTable::MappingInfo mapping_;
};

TEST_F(HandleTableTest, UnknownHandlesAreTheDrivers) {
  EXPECT_EQ(table_.Release(5, &out_), Released::kUnknown);
  EXPECT_FALSE(table_.Find(5, &out_));
  table_.AddReference(5);
  table_.AddMapping(4096, 4096, 5);
  EXPECT_FALSE(table_.FindMapping(4096, &mapping_));
  EXPECT_TRUE(table_.RemoveMappings(0, UINT64_MAX).empty());
}

TEST_F(HandleTableTest, DiesWithItsLastReference) {
  table_.Insert(Record(5, 100, Tier::kHost));
  table_.AddReference(5);
  EXPECT_EQ(table_.Release(5, &out_), Released::kStillUsed);
  EXPECT_EQ(table_.Release(5, &out_), Released::kDead);
  EXPECT_EQ(out_.handle, 5u);
  EXPECT_EQ(out_.bytes, 100u);
  EXPECT_TRUE(out_.spilled());
  EXPECT_EQ(table_.Release(5, &out_), Released::kUnknown);
}

TEST_F(HandleTableTest, MappingsOutliveReferences) {
  table_.Insert(Record(5, 100, Tier::kHost));
  table_.AddMapping(1000, 100, 5);
  table_.AddMapping(2000, 100, 5);
  EXPECT_EQ(table_.Release(5, &out_), Released::kStillUsed);
  EXPECT_EQ(table_.Release(5, &out_), Released::kInvalid);
  EXPECT_TRUE(table_.RemoveMappings(1000, 100).empty());
  ASSERT_TRUE(table_.FindAwayMapping(2099, &mapping_));
  EXPECT_EQ(mapping_.va, 2000u);
  EXPECT_EQ(table_.RemoveMappings(2000, 100).size(), 1u);
  EXPECT_FALSE(table_.FindMapping(2000, &mapping_));
  EXPECT_EQ(table_.Release(5, &out_), Released::kUnknown);
}

TEST_F(HandleTableTest, AReferenceGotFromAMappingCounts) {
  table_.Insert(Record(5, 100, Tier::kDevice));
  table_.AddMapping(1000, 100, 5);
  ASSERT_EQ(table_.Release(5, &out_), Released::kStillUsed);
  table_.AddReference(5);
  EXPECT_TRUE(table_.RemoveMappings(1000, 100).empty());
  EXPECT_EQ(table_.Release(5, &out_), Released::kDead);
}

TEST_F(HandleTableTest, FindsMappingsByEveryAddressInside) {
  table_.Insert(Record(5, 100, Tier::kDevice));
  table_.AddMapping(1000, 100, 5);
  EXPECT_FALSE(table_.FindMapping(999, &mapping_));
  EXPECT_TRUE(table_.FindMapping(1000, &mapping_));
  EXPECT_TRUE(table_.FindMapping(1099, &mapping_));
  EXPECT_FALSE(table_.FindMapping(1100, &mapping_));
  EXPECT_FALSE(table_.FindAwayMapping(1000, &mapping_));
  table_.Insert(Record(6, 50, Tier::kHost));
  EXPECT_FALSE(table_.FindAwayMapping(1000, &mapping_));  // another one's
}

TEST_F(HandleTableTest, SeveralDeviceChunksAreAway) {
  HandleRecord record = Record(5, 100, Tier::kDevice);
  EXPECT_FALSE(record.away());
  record.chunks = {{7, 60, Tier::kDevice}, {8, 40, Tier::kDevice}};
  record.CountTiers();
  table_.Insert(std::move(record));
  table_.AddMapping(1000, 100, 5);
  ASSERT_TRUE(table_.FindAwayMapping(1080, &mapping_));
  EXPECT_EQ(mapping_.va, 1000u);
  EXPECT_EQ(mapping_.bytes, 100u);
  EXPECT_EQ(mapping_.host_bytes, 0u);
}

class Nothing : public Asleep {
 public:
  AsleepBytes Bytes() const override { return {}; }
  uint64_t BackupBytes() const override { return 0; }
};

TEST_F(HandleTableTest, TellsWhatSleepsInASpan) {
  for (const CUmemGenericAllocationHandle handle : {5, 6, 7}) {
    table_.Insert(Record(handle, 100, Tier::kDevice));
    table_.AddMapping(handle * 100, 100, handle);
  }
  EXPECT_TRUE(table_.SleepingIn(500, 300).empty());
  for (const CUdeviceptr va : {500, 700}) {
    EXPECT_TRUE(map_.WithPlaced(
        va, [](Placed& placed, CUdeviceptr) { placed.asleep = std::make_shared<Nothing>(); }));
  }
  EXPECT_EQ(map_.totals().asleep.load(), 2u);
  const std::vector<HandleTable::Span> spans = table_.SleepingIn(500, 300);
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0].va, 500u);
  EXPECT_EQ(spans[1].va, 700u);
  EXPECT_EQ(spans[1].bytes, 100u);
  EXPECT_TRUE(table_.SleepingIn(600, 100).empty());
  EXPECT_TRUE(table_.FindAwayMapping(550, &mapping_));
  EXPECT_TRUE(mapping_.asleep);
  EXPECT_FALSE(table_.FindAwayMapping(650, &mapping_));
  EXPECT_EQ(table_.Release(5, &out_), Released::kStillUsed);
  ASSERT_EQ(table_.RemoveMappings(500, 100).size(), 1u);
  EXPECT_EQ(table_.SleepingIn(500, 300).size(), 1u);
}

TEST_F(HandleTableTest, OneUnmapMayEndSeveral) {
  for (CUmemGenericAllocationHandle handle = 1; handle <= 4; ++handle) {
    table_.Insert(Record(handle, 100, Tier::kHost));
    table_.AddMapping(1000 + handle * 100, 100, handle);
    table_.Release(handle, &out_);
  }
  EXPECT_EQ(table_.RemoveMappings(1200, 200).size(), 2u);
  EXPECT_TRUE(table_.FindMapping(1100, &mapping_));
  EXPECT_FALSE(table_.FindMapping(1200, &mapping_));
  EXPECT_TRUE(table_.FindMapping(1400, &mapping_));
  EXPECT_EQ(table_.RemoveMappings(0, UINT64_MAX).size(), 2u);
}

TEST_F(HandleTableTest, ARevivedRecordCanBeReleasedAgain) {
  table_.Insert(Record(5, 100, Tier::kHost));
  ASSERT_EQ(table_.Release(5, &out_), Released::kDead);
  table_.Revive(out_);
  EXPECT_EQ(table_.Release(5, &out_), Released::kDead);
}

TEST_F(HandleTableTest, RemembersThatItWasExported) {
  table_.Insert(Record(5, 100, Tier::kHost));
  table_.Pin(5, true);
  EXPECT_EQ(table_.Release(5, &out_), Released::kDead);
  EXPECT_TRUE(out_.chunks[0].exported);
  EXPECT_GT(out_.pins, 0u);
}

CUmemAccessDesc Access(CUmemLocationType type, int id, CUmemAccess_flags flags) {
  CUmemAccessDesc access{};
  access.location.type = type;
  access.location.id = id;
  access.flags = flags;
  return access;
}

TEST_F(HandleTableTest, RemembersWhoMayUseEachMapping) {
  table_.Insert(Record(5, 100, Tier::kDevice));
  table_.AddMapping(1000, 100, 5);
  table_.AddMapping(2000, 100, 5);
  const CUmemAccessDesc both[] = {Access(CU_MEM_LOCATION_TYPE_DEVICE, 0, CU_MEM_ACCESS_FLAGS_PROT_READWRITE),
                                  Access(CU_MEM_LOCATION_TYPE_DEVICE, 3, CU_MEM_ACCESS_FLAGS_PROT_READ)};
  table_.NoteAccess(1000, 100, both, 2);
  ASSERT_TRUE(table_.Find(5, &out_));
  ASSERT_EQ(out_.windows.size(), 2u);
  EXPECT_EQ(out_.windows[0].writers, 1u);
  EXPECT_EQ(out_.windows[0].readers, 8u);
  EXPECT_EQ(out_.windows[1].writers, 0u);
  const CUmemAccessDesc none = Access(CU_MEM_LOCATION_TYPE_DEVICE, 0, CU_MEM_ACCESS_FLAGS_PROT_NONE);
  table_.NoteAccess(1000, 100, &none, 1);
  ASSERT_TRUE(table_.Find(5, &out_));
  EXPECT_EQ(out_.windows[0].writers, 0u);
  EXPECT_EQ(out_.pins, 0u);
  const CUmemAccessDesc host = Access(CU_MEM_LOCATION_TYPE_HOST, 0, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
  table_.NoteAccess(2000, 100, &host, 1);
  ASSERT_TRUE(table_.Find(5, &out_));
  EXPECT_EQ(out_.pins, 1u);
}

TEST_F(HandleTableTest, ItsOwnNumbersAreToldFromTheDrivers) {
  EXPECT_TRUE(HandleTable::IsOurs(HandleTable::NewHandle()));
  EXPECT_NE(HandleTable::NewHandle(), HandleTable::NewHandle());
  EXPECT_FALSE(HandleTable::IsOurs(17));
  EXPECT_FALSE(HandleTable::IsOurs(0x7f0012345678));
}

}  // namespace
}  // namespace gpuroom
