// Reading a trace: the ring in order of time, what is lost or half-written, and what is no trace; and the
// JSON of it.
#include "cli/trace_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/trace_json.h"

namespace gpuroom {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kDay = 1'700'000'000'000'000'000;  // nanoseconds since 1970

TraceRecord Record(uint64_t sequence, uint64_t end, uint64_t duration = 0,
                   TraceKind kind = TraceKind::kAllocation) {
  return {sequence, end, duration, {0xf000000000000001, 2, 3, 4}, 7, static_cast<uint16_t>(kind), 0};
}

std::string File(const std::vector<TraceRecord>& ring, uint64_t next) {
  TraceHeader header{{}, ring.size(), next, 1000, kDay + 1000, 42, "a \"b\""};
  std::memcpy(header.magic, kTraceMagic, sizeof header.magic);
  std::string bytes(kTraceRecordsAt, '\0');
  std::memcpy(bytes.data(), &header, sizeof header);
  bytes.append(reinterpret_cast<const char*>(ring.data()), ring.size() * sizeof(TraceRecord));
  return bytes;
}

std::vector<uint64_t> Sequences(const TraceFile& file) {
  std::vector<uint64_t> sequences;
  for (const TraceRecord& record : file.records) sequences.push_back(record.sequence);
  return sequences;
}

TEST(TraceFileTest, RecordsComeInOrderOfTheirBeginning) {
  const TraceFile file = *ParseTrace(File({Record(1, 3000, 2000), Record(2, 2500, 100), {}, {}}, 2));
  EXPECT_EQ(file.process, 42u);
  EXPECT_EQ(file.program, "a \"b\"");
  EXPECT_EQ(file.lost, 0u);
  EXPECT_EQ(Sequences(file), (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(BeginOf(file, file.records[0]), kDay + 1000);
}

TEST(TraceFileTest, WhatWasOverwrittenOrNeverFinishedIsLost) {
  const TraceFile over = *ParseTrace(File({Record(5, 5), Record(6, 6), Record(3, 3), Record(4, 4)}, 6));
  EXPECT_EQ(Sequences(over), (std::vector<uint64_t>{3, 4, 5, 6}));
  EXPECT_EQ(over.lost, 2u);
  const TraceFile half = *ParseTrace(File({Record(1, 5), Record(0, 6), Record(3, 7), {}}, 3));
  EXPECT_EQ(Sequences(half), (std::vector<uint64_t>{1, 3}));
  EXPECT_EQ(half.lost, 1u);
}

TEST(TraceFileTest, NothingInARecordIsTakenOnTrust) {
  TraceRecord other = Record(2, 9);
  other.kind = 999;
  const std::string bytes = File({Record(3, 9), other, Record(3, 9, 10), Record(99, 9)}, 4);
  const TraceFile file =
      *ParseTrace(bytes);  // of another slot, of no kind, longer than time is, of the future
  EXPECT_TRUE(file.records.empty());
  EXPECT_EQ(file.lost, 4u);
}

TEST(TraceFileTest, WhatIsNoTraceIsRefused) {
  const std::string whole = File({Record(1, 5), {}}, 1);
  for (const size_t length : {size_t{0}, size_t{8}, kTraceRecordsAt - 1, kTraceRecordsAt, whole.size() - 1})
    EXPECT_FALSE(ParseTrace(whole.substr(0, length)).ok()) << length;
  std::string other = whole;
  other[7] = '9';
  EXPECT_FALSE(ParseTrace(other).ok());
}

TEST(TraceJsonTest, EventsAreInMicrosecondsAfterTheBase) {
  const TraceFile file =
      *ParseTrace(File({Record(1, 3500, 2250), Record(2, 4001, 0, TraceKind::kRefusal)}, 2));
  const Json json = Json::parse(TraceJson({file}));
  EXPECT_EQ(json["baseTimeNanoseconds"], kDay);
  EXPECT_EQ(json["otherData"]["lost_events"], 0);
  const Json& events = json["traceEvents"];
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0]["ph"], "M");
  EXPECT_EQ(events[0]["args"]["name"], "a \"b\"");
  EXPECT_EQ(events[1]["ph"], "X");
  EXPECT_EQ(events[1]["ts"], 1.25);
  EXPECT_EQ(events[1]["dur"], 2.25);
  EXPECT_EQ(events[1]["args"]["address"], "0xf000000000000001");
  EXPECT_EQ(events[1]["args"]["bytes"], 2);
  EXPECT_EQ(events[2]["ph"], "i");
  EXPECT_EQ(events[2]["s"], "t");
  EXPECT_EQ(events[2]["name"], "refusal");
}

TEST(TraceJsonTest, NoEventsAreAnEmptyTrace) {
  EXPECT_TRUE(Json::parse(TraceJson({}))["traceEvents"].empty());
}

TEST(TraceJsonTest, BesideAnotherTheTimesAreTheOthers) {
  const TraceFile file = *ParseTrace(File({Record(1, 3500, 500)}, 1));
  const std::string base = std::to_string(kDay - 1'000'000);
  const std::string other = R"({"deviceProperties": [{"traceEvents": [9]}], "a\"": "\"traceEvents\": [",)"
                            R"( "baseTimeNanoseconds": )" +
                            base + R"(, "traceEvents": [ {"ph": "X", "ts": 5.5} ], "z": 1})";
  const Result<std::string> both = TraceJsonBeside({file}, other);
  ASSERT_TRUE(both.ok());
  const Json json = Json::parse(*both);
  ASSERT_EQ(json["traceEvents"].size(), 3u);
  EXPECT_EQ(json["traceEvents"][1]["ts"], 1003.0);
  EXPECT_EQ(json["traceEvents"][2]["ts"], 5.5);
  EXPECT_EQ(json["z"], 1);
  EXPECT_EQ(json["deviceProperties"][0]["traceEvents"][0], 9);
}

TEST(TraceJsonTest, AnotherWithoutABaseCountsFrom1970) {
  const TraceFile file = *ParseTrace(File({Record(1, 3500, 500)}, 1));
  const Json json = Json::parse(*TraceJsonBeside({file}, R"({"traceEvents":[]})"));
  EXPECT_EQ(json["traceEvents"][1]["ts"], static_cast<double>(kDay / 1000 + 3));
}

TEST(TraceJsonTest, WhatHasNoEventsIsNoOther) {
  for (const char* other :
       {"", "[]", "{}", "{\"traceEvents\": {}}", "{\"traceEvents\"", "{\"a\": {\"traceEvents\": []}}"})
    EXPECT_FALSE(TraceJsonBeside({}, other).ok()) << other;
}

}  // namespace
}  // namespace gpuroom
