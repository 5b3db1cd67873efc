#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <utility>

#include "base/status.h"
#include "base/undo.h"

namespace gpuroom {
namespace {

TEST(Status, IsOkUntilToldOtherwise) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), Code::kOk);
  EXPECT_STREQ(status.what(), "");
  EXPECT_EQ(status.native(), 0);
}

TEST(Status, CarriesWhatFailedAndTheForeignCode) {
  const Status status(Code::kDriver, "cuMemMap", 1);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), Code::kDriver);
  EXPECT_STREQ(status.what(), "cuMemMap");
  EXPECT_EQ(status.native(), 1);
}

TEST(Status, GivesEachCodeANameOfItsOwn) {
  std::set<std::string> names;
  for (int code = 0; code <= static_cast<int>(Code::kBusy); ++code) {
    names.insert(CodeName(static_cast<Code>(code)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(Code::kBusy) + 1);
  EXPECT_EQ(names.count("unknown"), 0u);
  EXPECT_STREQ(CodeName(static_cast<Code>(200)), "unknown");
}

TEST(Result, HoldsAValueThatCanOnlyBeMoved) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(7));
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result.status().ok());
  const std::unique_ptr<int> taken = std::move(*result);
  EXPECT_EQ(*taken, 7);
}

// `for (char c : *Parse(...))` loops over a value that lives as long as the loop, not over a part of what has
// ended.
TEST(Result, OfATemporaryGivesItsValueAndNotAReference) {
  using Text = Result<std::string>;
  static_assert(std::is_same_v<decltype(*std::declval<Text>()), std::string>);
  static_assert(std::is_same_v<decltype(*std::declval<Text&>()), std::string&>);
  static_assert(std::is_same_v<decltype(*std::declval<const Text&>()), const std::string&>);
  EXPECT_EQ(*Text(std::string(100, 'x')), std::string(100, 'x'));
}

TEST(Result, HoldsTheStatusThatSaysWhyThereIsNone) {
  const Result<int> result(Status(Code::kOutOfMemory, "host budget"));
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), Code::kOutOfMemory);
}

TEST(Undo, RunsOnceUnlessDismissed) {
  int runs = 0;
  {
    const Undo undo([&] { ++runs; });
  }
  EXPECT_EQ(runs, 1);
  {
    Undo undo([&] { ++runs; });
    undo.Dismiss();
  }
  EXPECT_EQ(runs, 1);
}

TEST(Undo, RunsInTheReverseOrderOfArming) {
  std::string order;
  {
    const Undo first([&] { order += '1'; });
    const Undo second([&] { order += '2'; });
  }
  EXPECT_EQ(order, "21");
}

}  // namespace
}  // namespace gpuroom
