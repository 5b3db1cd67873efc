#include <gtest/gtest.h>

#include "shim/handle_table.h"

namespace headroom::shim {
namespace {

using Released = HandleTable::Released;

HandleRecord Record(CUmemGenericAllocationHandle handle, uint64_t bytes, Tier tier) {
  HandleRecord record;
  record.handle = handle;
  record.bytes = bytes;
  record.chunks = {{handle, bytes, tier}};
  return record;
}

class HandleTableTest : public testing::Test {
 protected:
  HandleTable table_;
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
  ASSERT_TRUE(table_.FindSpilledMapping(2099, &mapping_));
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
  EXPECT_FALSE(table_.FindSpilledMapping(1000, &mapping_));
  table_.Insert(Record(6, 50, Tier::kHost));
  EXPECT_FALSE(table_.FindSpilledMapping(1000, &mapping_));  // another one's
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
  table_.MarkExported(5);
  EXPECT_EQ(table_.Release(5, &out_), Released::kDead);
  EXPECT_TRUE(out_.exported);
}

}  // namespace
}  // namespace headroom::shim
