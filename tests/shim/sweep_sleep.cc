// Operations that put memory to sleep and wake it: all or nothing at every call that may fail. The limits are
// those of sweep_moves.cc, with more HBM.
#include <optional>

#include "headroom/sleep.h"
#include "sweep.h"

namespace headroom::shim_test {
namespace {

constexpr uint64_t kSize = 2 * kMiB;
constexpr uint64_t kAll = 3 * kSize;

uint64_t AsleepBytes() {
  headroom_stats stats{};
  EXPECT_EQ(headroom_get_stats(0, &stats, sizeof stats), HEADROOM_OK);
  return stats.asleep_bytes;
}

// Ranges, and memory that the program mapped at two addresses, of which one range is dropped.
class Sleeping : public Operation {
 public:
  Sleeping(headroom_sleep_action action, bool lazy) : action_(action), lazy_(lazy) {
    EXPECT_EQ(headroom_set_thread_hint(HEADROOM_HINT_NONE, "sweep"), HEADROOM_OK);
    EXPECT_CU(Cu().MemAlloc(&kept_, kSize));
    mapped_.emplace(kSize, 2);
    EXPECT_EQ(headroom_set_thread_dispensable(1), HEADROOM_OK);
    EXPECT_CU(Cu().MemAlloc(&dropped_, kSize));
    EXPECT_EQ(headroom_set_thread_dispensable(0), HEADROOM_OK);
    EXPECT_EQ(headroom_set_thread_hint(HEADROOM_HINT_NONE, nullptr), HEADROOM_OK);
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
    const bool slept = Sleep() == HEADROOM_OK;
    EXPECT_EQ(AsleepBytes(), slept ? kAll : 0);
    const bool woke = Wake() == HEADROOM_OK;
    EXPECT_EQ(AsleepBytes(), slept && !woke ? kAll : 0);
  }
  void Finish() override {
    EXPECT_EQ(Wake(), HEADROOM_OK) << headroom_last_error();
    for (const CUdeviceptr p : {kept_, mapped_->va, dropped_}) {
      EXPECT_EQ(headroom_range_migrate(p, 0, HEADROOM_TIER_DEVICE), HEADROOM_OK) << headroom_last_error();
      EXPECT_EQ(PlacementOf(p).device_bytes, kSize);
    }
    EXPECT_EQ(headroom_trim(0), HEADROOM_OK);
    Verified(kept_, kSize);
    Verified(mapped_->va, kSize);
    Verified(mapped_->At(1), kSize);
    FillAndVerify(dropped_, kSize);
  }
  void Check() override {
    if (lazy_) KeepHostMemory();
    EXPECT_EQ(Sleep(), HEADROOM_OK) << headroom_last_error();
    EXPECT_EQ(AsleepBytes(), kAll);
    Finish();
  }

 private:
  // For a lazy wake to map.
  static void KeepHostMemory() {
    CUdeviceptr p = 0;
    EXPECT_EQ(headroom_set_thread_hint(HEADROOM_HINT_COLD, nullptr), HEADROOM_OK);
    if (Cu().MemAlloc(&p, 2 * kSize) == CUDA_SUCCESS) {
      while (Cu().MemFree(p) != CUDA_SUCCESS) {
      }
    }
    EXPECT_EQ(headroom_set_thread_hint(HEADROOM_HINT_NONE, nullptr), HEADROOM_OK);
  }
  int Sleep() const {
    const headroom_tag_action tag = {"sweep", action_};
    const headroom_sleep_request request = {&tag, 1, directory_.c_str(), HEADROOM_HOLD_FAIL, 1};
    const int result = headroom_sleep(&request, nullptr, 0);
    EXPECT_EQ(result == HEADROOM_OK, *headroom_last_error() == '\0');
    return result;
  }
  int Wake() const {
    const int result = headroom_wake(nullptr, 0, lazy_ ? 1 : 0, nullptr, 0);
    EXPECT_EQ(result == HEADROOM_OK, *headroom_last_error() == '\0');
    return result;
  }

  const headroom_sleep_action action_;
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
    EXPECT_EQ(headroom_set_thread_hint(HEADROOM_HINT_NONE, "freed"), HEADROOM_OK);
    const CUresult made = Cu().MemAlloc(&p_, kSize);
    EXPECT_EQ(headroom_set_thread_hint(HEADROOM_HINT_NONE, nullptr), HEADROOM_OK);
    if (!Keep(results, made)) {
      p_ = 0;
      return;
    }
    const headroom_sleep_request all = {nullptr, 0, nullptr, HEADROOM_HOLD_NONE, 0};
    headroom_sleep_report report{};
    headroom_sleep(&all, &report, sizeof report);
    EXPECT_EQ(AsleepBytes(), report.kept);
    if (Keep(results, Cu().MemFree(p_))) p_ = 0;
  }
  void Finish() override {
    if (p_ == 0) return;
    EXPECT_EQ(headroom_wake(nullptr, 0, 0, nullptr, 0), HEADROOM_OK) << headroom_last_error();
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
  const auto make = [](const char* name, headroom_sleep_action action, bool lazy) {
    return Case{name, [=] { return std::make_unique<Sleeping>(action, lazy); }, kSize};
  };
  return {make("Kept", HEADROOM_SLEEP_KEEP, false),
          make("OnDisk", HEADROOM_SLEEP_DISK, false),
          {"FreedAsleep", [] { return std::make_unique<FreedAsleep>(); }, kSize}};
}

std::vector<Case> LazyCases() {
  return {{"Lazily", [] { return std::make_unique<Sleeping>(HEADROOM_SLEEP_KEEP, true); }, kSize}};
}

}  // namespace headroom::shim_test
