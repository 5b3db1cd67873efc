// The ring of events: what is written is in the file at once, the oldest go first, and nothing is written
// where no trace is on.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "base/trace.h"

namespace gpuroom {
namespace {

class TraceTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/gpuroom-trace-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    path_ = folder_ + "/trace";
  }
  void TearDown() override {
    Trace::ForgetAfterFork();  // off, for the tests beside this one
    unlink(path_.c_str());
    rmdir(folder_.c_str());
  }
  std::string Bytes() const {
    std::ifstream file(path_, std::ios::binary | std::ios::ate);
    std::string bytes(static_cast<size_t>(file.tellg()), '\0');
    file.seekg(0);
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return bytes;
  }
  TraceHeader Header() const {
    TraceHeader header;
    std::memcpy(&header, Bytes().data(), sizeof header);
    return header;
  }
  static TraceRecord Record(const std::string& bytes, uint64_t slot) {
    TraceRecord record;
    std::memcpy(&record, bytes.data() + kTraceRecordsAt + slot * sizeof record, sizeof record);
    return record;
  }

  std::string folder_;
  std::string path_;
};

TEST_F(TraceTest, IsOffUntilItIsStarted) {
  EXPECT_FALSE(Trace::on());
  EXPECT_EQ(Trace::Now(), 0u);
  Trace::Add(TraceKind::kMove, 0, 0, {1});
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

TEST_F(TraceTest, WhatIsWrittenIsInTheFileAtOnce) {
  const uint64_t before = NowNanoseconds();
  ASSERT_TRUE(Trace::Start(path_.c_str()).ok());
  const uint64_t start = Trace::Now();
  Trace::Add(TraceKind::kAllocation, 3, start, {7, 8, 9, 10});
  Trace::Add(TraceKind::kRefusal, -1, 0, {11});
  const std::string bytes = Bytes();
  ASSERT_EQ(bytes.size(), kTraceBytes);
  EXPECT_EQ(std::memcmp(Header().magic, kTraceMagic, sizeof kTraceMagic), 0);
  EXPECT_EQ(Header().next, 2u);
  EXPECT_EQ(Header().process, static_cast<uint64_t>(getpid()));
  EXPECT_GE(Header().monotonic, before);
  const TraceRecord first = Record(bytes, 0);
  EXPECT_EQ(first.sequence, 1u);
  EXPECT_EQ(first.end - first.duration, start);
  EXPECT_EQ(first.values, (std::array<uint64_t, 4>{7, 8, 9, 10}));
  EXPECT_EQ(first.device, 3);
  const TraceRecord second = Record(bytes, 1);
  EXPECT_EQ(second.kind, static_cast<uint16_t>(TraceKind::kRefusal));
  EXPECT_EQ(second.device, kNoTraceDevice);
  EXPECT_EQ(second.duration, 0u);
  EXPECT_EQ(second.values, (std::array<uint64_t, 4>{11, 0, 0, 0}));
}

TEST_F(TraceTest, AnOlderFileIsReplacedAndKeptForWhoHasItOpen) {
  std::ofstream(path_) << "older";
  std::ifstream older(path_);
  ASSERT_TRUE(Trace::Start(path_.c_str()).ok());
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(older), {}), "older");
  EXPECT_EQ(Bytes().size(), kTraceBytes);
}

TEST_F(TraceTest, AFolderThatIsNotThereIsAnAnswer) {
  const Status status = Trace::Start((folder_ + "/none/trace").c_str());
  EXPECT_EQ(status.code(), Code::kSystem);
  EXPECT_EQ(status.native(), ENOENT);
  EXPECT_FALSE(Trace::on());
}

TEST_F(TraceTest, ThreadsFillTheRingAndTheOldestGoFirst) {
  ASSERT_TRUE(Trace::Start(path_.c_str()).ok());
  constexpr uint64_t kThreads = 4;
  constexpr uint64_t kEach = kTraceCapacity / kThreads + 100;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([t] {
      for (uint64_t i = 0; i < kEach; ++i) Trace::Add(TraceKind::kFree, 0, 0, {t, i});
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Header().next, kThreads * kEach);
  const std::string bytes = Bytes();
  for (uint64_t slot = 0; slot < kTraceCapacity; ++slot) {
    const TraceRecord record = Record(bytes, slot);
    ASSERT_EQ((record.sequence - 1) % kTraceCapacity, slot);
    ASSERT_GT(record.sequence, kThreads * kEach - kTraceCapacity);
    ASSERT_LT(record.values[0], kThreads);
    ASSERT_LT(record.values[1], kEach);
  }
}

}  // namespace
}  // namespace gpuroom
