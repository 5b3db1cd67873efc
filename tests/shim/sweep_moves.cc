// Operations that move memory. Their sizes are small, since every move copies: ctest
// sets HBM 6 MiB, of which 2 are the reserve, 32 MiB of host memory, and ranges from 2 MiB on.
#include <optional>

#include "sweep.h"

namespace gpuroom::shim_test {
namespace {

constexpr uint64_t kRoom = 4 * kMiB;      // for ranges
constexpr uint64_t kLeft = 2 * kMiB - 1;  // small, it takes all of the reserve
constexpr uint64_t kSmall = kMiB;
constexpr uint64_t kSize = 2 * kMiB;

// Small ones for which a large one gives way, and its way back.
class Displacing : public Operation {
 public:
  Displacing() {
    EXPECT_CU(Cu().MemAlloc(&large_, kRoom));
    EXPECT_CU(Cu().MemAlloc(&small_, kLeft));
    FillAndVerify(large_, kRoom);
  }
  ~Displacing() override {
    EXPECT_CU(Cu().MemFree(large_));
    EXPECT_CU(Cu().MemFree(small_));
  }
  void Run(Results* results) override {
    inner_.Run(results);
    gpuroom_range_migrate(large_, 0, GPUROOM_TIER_DEVICE);
  }
  void Finish() override {
    inner_.Finish();
    EXPECT_EQ(gpuroom_range_migrate(large_, 0, GPUROOM_TIER_DEVICE), GPUROOM_OK) << gpuroom_last_error();
    EXPECT_EQ(PlacementOf(large_).device_bytes, kRoom);
    Verified(large_, kRoom);
  }
  void Check() override {
    inner_.Check();
    EXPECT_EQ(PlacementOf(large_).host_bytes, kRoom);
    Finish();
  }

 private:
  CUdeviceptr large_ = 0;
  CUdeviceptr small_ = 0;
  AllocAndFree inner_{kSmall};
};

// To the host and back, a range and memory that the program mapped itself.
class Migrating : public Operation {
 public:
  Migrating() {
    EXPECT_CU(Cu().MemAlloc(&large_, kSize));
    FillAndVerify(large_, kSize);
    mapped_.emplace(kSize, 2);
    FillAndVerify(mapped_->va, kSize);
  }
  ~Migrating() override {
    EXPECT_CU(Cu().MemFree(large_));
    mapped_->Free();
  }
  void Run(Results*) override {
    Move(GPUROOM_TIER_HOST);
    Move(GPUROOM_TIER_DEVICE);
  }
  void Finish() override {
    EXPECT_EQ(Move(GPUROOM_TIER_DEVICE), GPUROOM_OK) << gpuroom_last_error();
    Verified(large_, kSize);
    Verified(mapped_->va, kSize);
    Verified(mapped_->At(1), kSize);
  }
  void Check() override {
    EXPECT_EQ(Move(GPUROOM_TIER_HOST), GPUROOM_OK) << gpuroom_last_error();
    EXPECT_EQ(PlacementOf(large_).host_bytes, kSize);
    EXPECT_EQ(PlacementOf(mapped_->At(1)).host_bytes, kSize);
    Verified(mapped_->At(1), kSize);
    Finish();
  }

 private:
  int Move(int tier) {
    gpuroom_move moves[] = {{large_, 0, tier, 0, 0}, {mapped_->va, 0, tier, 0, 0}};
    return gpuroom_migrate_batch(moves, 2, sizeof moves[0]);
  }
  CUdeviceptr large_ = 0;
  std::optional<Mapped> mapped_;
};

}  // namespace

std::vector<Case> MoveCases() {
  return {{"Displacing", [] { return std::make_unique<Displacing>(); }, kSize},
          {"Migrating", [] { return std::make_unique<Migrating>(); }, 2 * kMiB}};
}

}  // namespace gpuroom::shim_test
