// SleepTest: memory under tags, put to sleep and woken by the C interface. What a test puts to sleep it wakes
// or frees again.
#pragma once

#include <string>
#include <vector>

#include "gpuroom/sleep.h"
#include "shim_test.h"

namespace gpuroom::shim_test {

using Tags = std::vector<gpuroom_tag_action>;

class SleepTest : public ShimTest {
 protected:
  void TearDown() override {
    EXPECT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_NONE, nullptr), GPUROOM_OK);
    EXPECT_EQ(gpuroom_set_thread_dispensable(0), GPUROOM_OK);
    EXPECT_EQ(Wake().ranges, 0u);
    ShimTest::TearDown();
  }

  static void SetTag(const char* tag) {
    ASSERT_EQ(gpuroom_set_thread_hint(GPUROOM_HINT_NONE, tag), GPUROOM_OK);
  }
  CUdeviceptr AllocTagged(const char* tag, uint64_t bytes) {
    SetTag(tag);
    const CUdeviceptr p = Alloc(bytes);
    SetTag(nullptr);
    return p;
  }

  static int TrySleep(const Tags& tags = {}, gpuroom_hold hold = GPUROOM_HOLD_NONE,
                      const char* directory = nullptr, gpuroom_sleep_report* report = nullptr) {
    const gpuroom_sleep_request request = {tags.data(), tags.size(), directory, hold, 1};
    return gpuroom_sleep(&request, sizeof request, report, report == nullptr ? 0 : sizeof *report);
  }
  static gpuroom_sleep_report Sleep(const Tags& tags = {}, gpuroom_hold hold = GPUROOM_HOLD_NONE,
                                    const char* directory = nullptr) {
    gpuroom_sleep_report report{};
    EXPECT_EQ(TrySleep(tags, hold, directory, &report), GPUROOM_OK) << gpuroom_last_error();
    return report;
  }
  static int TryWake(const std::vector<const char*>& tags = {}) {
    return gpuroom_wake(tags.data(), tags.size(), 0, nullptr, 0);
  }
  static gpuroom_sleep_report Wake(const std::vector<const char*>& tags = {}, bool lazy = false) {
    gpuroom_sleep_report report{};
    EXPECT_EQ(gpuroom_wake(tags.data(), tags.size(), lazy ? 1 : 0, &report, sizeof report), GPUROOM_OK)
        << gpuroom_last_error();
    return report;
  }
  // All zero for a tag that no memory has.
  static gpuroom_tag_state StateOf(const std::string& tag) {
    std::vector<gpuroom_tag_state> states(16);
    size_t count = 0;
    EXPECT_EQ(gpuroom_sleep_states(states.data(), states.size(), &count, sizeof states[0]), GPUROOM_OK);
    EXPECT_LE(count, states.size());
    for (size_t i = 0; i < count; ++i) {
      if (tag == states[i].tag) return states[i];
    }
    return {};
  }
  static gpuroom_placement Describe(CUdeviceptr p) {
    gpuroom_placement placement{};
    EXPECT_EQ(gpuroom_describe(p, &placement, sizeof placement), 0);
    return placement;
  }
  static gpuroom_stats Stats(int device = 0) {
    gpuroom_stats stats{};
    EXPECT_EQ(gpuroom_get_stats(device, &stats, sizeof stats), GPUROOM_OK);
    return stats;
  }
};

}  // namespace gpuroom::shim_test
