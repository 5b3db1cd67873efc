#include <gtest/gtest.h>

#include "topology/visible_devices.h"

namespace gpuroom {
namespace {

std::vector<size_t> Visible(const char* value) {
  return VisibleDevices(value, {"GPU-aa11", "GPU-aa22", "GPU-bb33", "GPU-cc44"});
}
using List = std::vector<size_t>;

TEST(VisibleDevices, AllWhereTheVariableIsNotSet) {
  EXPECT_EQ(Visible(nullptr), (List{0, 1, 2, 3}));
  EXPECT_EQ(Visible(""), List{});
}

TEST(VisibleDevices, NumbersInTheirOrderUntilOneThatNamesNothing) {
  EXPECT_EQ(Visible("2,0"), (List{2, 0}));
  EXPECT_EQ(Visible("1, 3"), (List{1, 3}));
  EXPECT_EQ(Visible("1gpu,2"), (List{1, 2}));
  EXPECT_EQ(Visible("0,4,1"), List{0});
  EXPECT_EQ(Visible("3,-1,1"), List{3});
  EXPECT_EQ(Visible("-1"), List{});
  EXPECT_EQ(Visible("0,GPU-aa22"), List{0});
  EXPECT_EQ(Visible("none"), List{});
  EXPECT_EQ(Visible("0,99999999999999999999"), List{0});
}

TEST(VisibleDevices, UuidsThatMayBeCutShort) {
  EXPECT_EQ(Visible("GPU-bb33,GPU-aa1"), (List{2, 0}));
  EXPECT_EQ(Visible("GPU-c,GPU-aa,GPU-bb"), List{3});  // two begin with the second
  EXPECT_EQ(Visible("GPU-dd,GPU-aa11"), List{});
  EXPECT_EQ(Visible("GPU-aa11,1"), List{0});
}

TEST(VisibleDevices, OneTwiceLeavesNone) {
  EXPECT_EQ(Visible("0,1,0"), List{});
  EXPECT_EQ(Visible("GPU-bb,GPU-bb33"), List{});
}

}  // namespace
}  // namespace gpuroom
