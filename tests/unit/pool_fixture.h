// What the pool's tests share: a pool on a fake device with two streams, which has to be left clean.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "pool/pool.h"
#include "pool_fake_source.h"
#include "pool_fakes.h"

namespace gpuroom {

class PoolTest : public ::testing::Test {
 protected:
  void TearDown() override {
    pool_.reset();
    EXPECT_TRUE(source_.live.empty());
    EXPECT_EQ(device_.live_events(), 0U);
    EXPECT_EQ(device_.broken_captures, 0);
    EXPECT_EQ(device_.dead_handles, 0);
  }
  CUdeviceptr Get(uint64_t bytes, CUstream stream) {
    const Result<CUdeviceptr> va = pool_->Allocate(bytes, stream);
    EXPECT_TRUE(va.ok()) << va.status().what();
    if (!va.ok()) return 0;
    device_.Work(*va, bytes, stream, ++owner_);
    return *va;
  }
  Code Try(uint64_t bytes, CUstream stream) { return pool_->Allocate(bytes, stream).status().code(); }
  void Give(CUdeviceptr va, CUstream stream) { EXPECT_TRUE(pool_->Free(va, stream).ok()); }
  PoolStats Stats() const { return pool_->Stats(); }
  void Limit(uint64_t resident, uint64_t spill = 0) {
    source_.resident = resident;
    source_.spill = spill;
  }

  FakeDevice device_;
  FakeSource source_{device_};
  const Driver driver_ = device_.MakeDriver();
  std::unique_ptr<Pool> pool_ = std::make_unique<Pool>(driver_, source_);
  uint64_t owner_ = 0;
  const CUstream a_ = Stream(100);
  const CUstream b_ = Stream(200);
};

}  // namespace gpuroom
