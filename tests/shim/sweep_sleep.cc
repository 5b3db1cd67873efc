// Operations that put memory to sleep and wake it: all or nothing at every call that may fail. The limits are
// those of sweep_moves.cc, with more HBM.
#include <optional>

#include "gpuroom/sleep.h"
#include "sweep.h"

namespace gpuroom::shim_test {
namespace {

constexpr uint64_t kSize = 2 * kMiB;
constexpr uint64_t kAll = 3 * kSize;

uint64_t AsleepBytes() {
  gpuroom_stats stats{};
  EXPECT_EQ(gpuroom_get_stats(0, &stats, sizeof stats), GPUROOM_OK);
  return stats.asleep_bytes;
}

// Ranges, and memory that the program mapped at two addresses, of which one range is dropped.
class Sleeping : public Operation {
 public:
  Sleeping(gpuroom_sleep_action action, bool lazy) : action_(action), lazy_(lazy) {
    EXPECT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_NONE, "sweep"), GPUROOM_OK);
    EXPECT_CU(Cu().MemAlloc(&kept_, kSize));
    mapped_.emplace(kSize, 2);
    EXPECT_EQ(gpuroom_set_thread_dispensable(1), GPUROOM_OK);
    EXPECT_CU(Cu().MemAlloc(&dropped_, kSize));
    EXPECT_EQ(gpuroom_set_thread_dispensable(0), GPUROOM_OK);
    EXPECT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_NONE, nullptr), GPUROOM_OK);
    FillAndVerify(kept_, kSize);
    FillAndVerify(mapped_->va, kSize);
  }
  ~Sleeping() override {
    EXPECT_CU(Cu().MemFree(kept_));
    EXPECT_CU(Cu().MemFree(dropped_));
    mapped_->Free();
  }
  void Run(Results*) override {
    if (lazy_) KeepHostMemory();
    const bool slept = Sleep() == GPUROOM_OK;
    EXPECT_EQ(AsleepBytes(), slept ? kAll : 0);
    const bool woke = Wake() == GPUROOM_OK;
    EXPECT_EQ(AsleepBytes(), slept && !woke ? kAll : 0);
  }
  void Finish() override {
    EXPECT_EQ(Wake(), GPUROOM_OK) << gpuroom_last_error();
    for (const CUdeviceptr p : {kept_, mapped_->va, dropped_}) {
      EXPECT_EQ(gpuroom_range_migrate(p, 0, GPUROOM_TIER_DEVICE), GPUROOM_OK) << gpuroom_last_error();
      EXPECT_EQ(PlacementOf(p).device_bytes, kSize);
    }
    EXPECT_EQ(gpuroom_trim(0), GPUROOM_OK);
    Verified(kept_, kSize);
    Verified(mapped_->va, kSize);
    Verified(mapped_->At(1), kSize);
    FillAndVerify(dropped_, kSize);
  }
  void Check() override {
    if (lazy_) KeepHostMemory();
    EXPECT_EQ(Sleep(), GPUROOM_OK) << gpuroom_last_error();
    EXPECT_EQ(AsleepBytes(), kAll);
    Finish();
  }

 private:
  // For a lazy wake to map.
  static void KeepHostMemory() {
    CUdeviceptr p = 0;
    EXPECT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_COLD, nullptr), GPUROOM_OK);
    if (Cu().MemAlloc(&p, 2 * kSize) == CUDA_SUCCESS) {
      while (Cu().MemFree(p) != CUDA_SUCCESS) {
      }
    }
    EXPECT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_NONE, nullptr), GPUROOM_OK);
  }
  int Sleep() const {
    const gpuroom_tag_action tag = {"sweep", action_};
    const gpuroom_sleep_request request = {&tag, 1, directory_.c_str(), GPUROOM_HOLD_FAIL, 1};
    const int result = gpuroom_sleep(&request, sizeof request, nullptr, 0);
    EXPECT_EQ(result == GPUROOM_OK, *gpuroom_last_error() == '\0');
    return result;
  }
  int Wake() const {
    const int result = gpuroom_wake(nullptr, 0, lazy_ ? 1 : 0, nullptr, 0);
    EXPECT_EQ(result == GPUROOM_OK, *gpuroom_last_error() == '\0');
    return result;
  }

  const gpuroom_sleep_action action_;
  const bool lazy_;
  const std::string directory_ = testing::TempDir();
  CUdeviceptr kept_ = 0;
  CUdeviceptr dropped_ = 0;
  std::optional<Mapped> mapped_;
};

// Freed and unmapped while it sleeps.
class FreedAsleep : public Operation {
 public:
  void Run(Results* results) override {
    EXPECT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_NONE, "freed"), GPUROOM_OK);
    const CUresult made = Cu().MemAlloc(&p_, kSize);
    EXPECT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_NONE, nullptr), GPUROOM_OK);
    if (!Keep(results, made)) {
      p_ = 0;
      return;
    }
    const gpuroom_sleep_request all = {nullptr, 0, nullptr, GPUROOM_HOLD_NONE, 0};
    gpuroom_sleep_report report{};
    gpuroom_sleep(&all, sizeof all, &report, sizeof report);
    EXPECT_EQ(AsleepBytes(), report.kept);
    if (Keep(results, Cu().MemFree(p_))) p_ = 0;
  }
  void Finish() override {
    if (p_ == 0) return;
    EXPECT_EQ(gpuroom_wake(nullptr, 0, 0, nullptr, 0), GPUROOM_OK) << gpuroom_last_error();
    FillAndVerify(p_, kSize);
    EXPECT_CU(Cu().MemFree(p_));
    p_ = 0;
  }
  void Check() override {
    Results results;
    Run(&results);
    EXPECT_EQ(results, Results(2, CUDA_SUCCESS));
    EXPECT_EQ(p_, 0u);
  }

 private:
  CUdeviceptr p_ = 0;
};

}  // namespace

std::vector<Case> SleepCases() {
  const auto make = [](const char* name, gpuroom_sleep_action action, bool lazy) {
    return Case{name, [=] { return std::make_unique<Sleeping>(action, lazy); }, kSize};
  };
  return {make("Kept", GPUROOM_SLEEP_KEEP, false),
          make("OnDisk", GPUROOM_SLEEP_DISK, false),
          {"FreedAsleep", [] { return std::make_unique<FreedAsleep>(); }, kSize}};
}

std::vector<Case> LazyCases() {
  return {{"Lazily", [] { return std::make_unique<Sleeping>(GPUROOM_SLEEP_KEEP, true); }, kSize}};
}

}  // namespace gpuroom::shim_test
