// SleepTest: memory under tags, put to sleep and woken by the C interface. What a test puts to sleep it wakes
// or frees again.
#pragma once

#include <string>
#include <vector>

#include "headroom/sleep.h"
#include "shim_test.h"

namespace headroom::shim_test {

using Tags = std::vector<headroom_tag_action>;

class SleepTest : public ShimTest {
 protected:
  void TearDown() override {
    EXPECT_EQ(headroom_set_thread_hint(HEADROOM_HINT_NONE, nullptr), HEADROOM_OK);
    EXPECT_EQ(headroom_set_thread_dispensable(0), HEADROOM_OK);
    EXPECT_EQ(Wake().ranges, 0u);
    ShimTest::TearDown();
  }

  static void SetTag(const char* tag) {
    ASSERT_EQ(headroom_set_thread_hint(HEADROOM_HINT_NONE, tag), HEADROOM_OK);
  }
  CUdeviceptr AllocTagged(const char* tag, uint64_t bytes) {
    SetTag(tag);
    const CUdeviceptr p = Alloc(bytes);
    SetTag(nullptr);
    return p;
  }

  static int TrySleep(const Tags& tags = {}, headroom_hold hold = HEADROOM_HOLD_NONE,
                      const char* directory = nullptr, headroom_sleep_report* report = nullptr) {
    const headroom_sleep_request request = {tags.data(), tags.size(), directory, hold, 1};
    return headroom_sleep(&request, report, report == nullptr ? 0 : sizeof *report);
  }
  static headroom_sleep_report Sleep(const Tags& tags = {}, headroom_hold hold = HEADROOM_HOLD_NONE,
                                     const char* directory = nullptr) {
    headroom_sleep_report report{};
    EXPECT_EQ(TrySleep(tags, hold, directory, &report), HEADROOM_OK) << headroom_last_error();
    return report;
  }
  static int TryWake(const std::vector<const char*>& tags = {}) {
    return headroom_wake(tags.data(), tags.size(), 0, nullptr, 0);
  }
  static headroom_sleep_report Wake(const std::vector<const char*>& tags = {}, bool lazy = false) {
    headroom_sleep_report report{};
    EXPECT_EQ(headroom_wake(tags.data(), tags.size(), lazy ? 1 : 0, &report, sizeof report), HEADROOM_OK)
        << headroom_last_error();
    return report;
  }
  // All zero for a tag that no memory has.
  static headroom_tag_state StateOf(const std::string& tag) {
    std::vector<headroom_tag_state> states(16);
    size_t count = 0;
    EXPECT_EQ(headroom_sleep_states(states.data(), states.size(), &count), HEADROOM_OK);
    EXPECT_LE(count, states.size());
    for (size_t i = 0; i < count; ++i) {
      if (tag == states[i].tag) return states[i];
    }
    return {};
  }
  static headroom_placement Describe(CUdeviceptr p) {
    headroom_placement placement{};
    EXPECT_EQ(headroom_describe(p, &placement), 0);
    return placement;
  }
  static headroom_stats Stats(int device = 0) {
    headroom_stats stats{};
    EXPECT_EQ(headroom_get_stats(device, &stats, sizeof stats), HEADROOM_OK);
    return stats;
  }
};

}  // namespace headroom::shim_test
