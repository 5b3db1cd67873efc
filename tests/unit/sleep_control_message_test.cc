// The control protocol's lines, requests and replies: what is written is read back, and bad text is refused.
#include <gtest/gtest.h>

#include <utility>

#include "sleep/control_line.h"
#include "sleep/control_message.h"

namespace gpuroom {
namespace {

std::string WithoutNewline(const std::string& line) {
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  return line.substr(0, line.size() - 1);
}

Code CodeOfRequest(const std::string& line) { return ParseRequest(line).status().code(); }

TEST(ControlLineTest, AnyBytesComeThrough) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  const std::string encoded = PercentEncode(all);
  EXPECT_EQ(encoded.find_first_of(" =\n\t;"), std::string::npos);
  const Result<std::string> back = PercentDecode(encoded);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, all);
}

TEST(ControlLineTest, BrokenEncodingsAreRefused) {
  for (const char* text : {"%", "%4", "a%4", "%G0", "%0G", "%%%"})
    EXPECT_FALSE(PercentDecode(text).ok()) << text;
  EXPECT_EQ(*PercentDecode("%41%7a%7A"), "Azz");
}

TEST(ControlLineTest, NumbersAreDecimalAndFit) {
  EXPECT_EQ(*ParseDecimal("18446744073709551615"), UINT64_MAX);
  for (const char* text : {"", "-1", "+1", " 1", "1 ", "0x1", "18446744073709551616"})
    EXPECT_FALSE(ParseDecimal(text).ok()) << text;
}

template <typename Line>
concept ShowsWords = requires(Line line) {
  std::forward<Line>(line).Word(0);
};
template <typename Line>
concept ShowsValues = requires(Line line) {
  std::forward<Line>(line).Value("key");
};
template <typename Line>
concept ShowsFields = requires(Line line) {
  std::forward<Line>(line).fields();
};

TEST(ControlLineTest, ATemporaryLineGivesNoViewOfItself) {
  static_assert(ShowsWords<const ControlLine&> && !ShowsWords<ControlLine>);
  static_assert(ShowsValues<const ControlLine&> && !ShowsValues<ControlLine>);
  static_assert(ShowsFields<const ControlLine&> && !ShowsFields<ControlLine>);
}

TEST(ControlLineTest, WordsAndFields) {
  const Result<ControlLine> line = ControlLine::Parse("one  two a=1 b= a=x%20y c==");
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(line->Word(0), "one");
  EXPECT_EQ(line->Word(1), "two");
  EXPECT_EQ(line->Word(2), "");
  ASSERT_EQ(line->fields().size(), 4u);
  EXPECT_EQ(line->fields()[2].second, "x y");
  EXPECT_EQ(line->Value("c"), "=");
  EXPECT_EQ(line->Number("a"), 1u);
  EXPECT_EQ(line->Number("absent"), 0u);
  EXPECT_FALSE(ControlLine::Parse("").ok());
  EXPECT_FALSE(ControlLine::Parse("a=1").ok());
}

TEST(ControlMessageTest, ASleepIsReadBack) {
  ControlRequest request;
  request.verb = ControlRequest::Verb::kSleep;
  request.actions = {
      {"kv = \n\xc3\xa9 %41", GPUROOM_SLEEP_DROP}, {"", GPUROOM_SLEEP_DISK}, {"a:b", GPUROOM_SLEEP_STAY}};
  request.rest = GPUROOM_SLEEP_KEEP;
  request.hold = GPUROOM_HOLD_FAIL;
  request.verify = true;
  request.directory = "/a folder/=";
  const Result<ControlRequest> back = ParseRequest(WithoutNewline(FormatRequest(request)));
  ASSERT_TRUE(back.ok()) << back.status().what();
  EXPECT_EQ(back->verb, request.verb);
  EXPECT_EQ(back->actions, request.actions);
  EXPECT_EQ(back->rest, request.rest);
  EXPECT_EQ(back->hold, request.hold);
  EXPECT_TRUE(back->verify);
  EXPECT_EQ(back->directory, request.directory);
}

TEST(ControlMessageTest, AWakeIsReadBackInItsOrder) {
  ControlRequest request;
  request.verb = ControlRequest::Verb::kWake;
  request.tags = {"weights", "", "kv cache"};
  request.lazy = true;
  const Result<ControlRequest> back = ParseRequest(WithoutNewline(FormatRequest(request)));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->verb, request.verb);
  EXPECT_EQ(back->tags, request.tags);
  EXPECT_TRUE(back->lazy);
}

TEST(ControlMessageTest, AHintIsReadBack) {
  ControlRequest request;
  request.verb = ControlRequest::Verb::kHint;
  request.tags = {"weights", ""};
  request.hint = Hint::kStream;
  EXPECT_EQ(FormatRequest(request), "gpuroom 1 hint hint=stream tag=weights tag=\n");
  const Result<ControlRequest> back = ParseRequest(WithoutNewline(FormatRequest(request)));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->verb, request.verb);
  EXPECT_EQ(back->tags, request.tags);
  EXPECT_EQ(back->hint, Hint::kStream);
}

TEST(ControlMessageTest, BadRequestsAreRefused) {
  EXPECT_EQ(CodeOfRequest("gpuroom 1 status"), Code::kOk);
  EXPECT_EQ(CodeOfRequest("gpuroom 1 sleep"), Code::kOk);
  EXPECT_EQ(CodeOfRequest("gpuroom 2 sleep"), Code::kUnsupported);
  EXPECT_EQ(CodeOfRequest("gpuroom x status"), Code::kUnsupported);
  for (const char* line : {"",
                           "GET / HTTP/1.1",
                           "gpuroom 1",
                           "gpuroom 1 destroy",
                           "gpuroom 1 status a=1",
                           "gpuroom 1 sleep do=keep",
                           "gpuroom 1 sleep do=eat:x",
                           "gpuroom 1 sleep rest=",
                           "gpuroom 1 sleep hold=perhaps",
                           "gpuroom 1 sleep verify=2",
                           "gpuroom 1 sleep tag=x",
                           "gpuroom 1 sleep directory=%00",
                           "gpuroom 1 hint",
                           "gpuroom 1 hint tag=x",
                           "gpuroom 1 hint hint=warm",
                           "gpuroom 1 hint hint=hot lazy=1",
                           "gpuroom 1 wake hint=hot",
                           "gpuroom 1 wake lazy=yes",
                           "gpuroom 1 wake do=keep:x",
                           "gpuroom 1 wake tag=%0"})
    EXPECT_EQ(CodeOfRequest(line), Code::kInvalidArgument) << line;
}

TEST(ControlMessageTest, ARepliesReportAndStatesAreReadBack) {
  ControlReply reply;
  reply.report = gpuroom_sleep_report{1, 2, 3, 4, 5, 6, UINT64_MAX};
  reply.version = "0.1.0";
  reply.doing = "sleep";
  reply.fresh = false;
  reply.tags = {{"kv cache", 1, 2, 3, 4, 5, 6}, {"", 7, 8, 9, 10, 11, 12}};
  const Result<ControlReply> back = ParseReply(FormatReply(reply));
  ASSERT_TRUE(back.ok()) << back.status().what();
  EXPECT_EQ(back->result, GPUROOM_OK);
  ASSERT_TRUE(back->report.has_value());
  EXPECT_EQ(back->report->left_awake, 6u);
  EXPECT_EQ(back->report->nanoseconds, UINT64_MAX);
  EXPECT_EQ(back->version, "0.1.0");
  EXPECT_EQ(back->doing, "sleep");
  EXPECT_FALSE(back->fresh);
  ASSERT_EQ(back->tags.size(), 2u);
  EXPECT_STREQ(back->tags[0].tag, "kv cache");
  EXPECT_EQ(back->tags[1].dropped, 12u);
  EXPECT_EQ(back->tags[1].awake_on_gpu, 9u);
}

TEST(ControlMessageTest, ARefusalCarriesItsSentence) {
  for (int result = GPUROOM_OUT_OF_MEMORY; result <= GPUROOM_BUSY; ++result) {
    ControlReply reply;
    reply.result = result;
    reply.text = "no room; drop some = more\n";
    const Result<ControlReply> back = ParseReply(FormatReply(reply));
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(back->result, result);
    EXPECT_EQ(back->text, reply.text);
    EXPECT_FALSE(back->report.has_value());
  }
}

TEST(ControlMessageTest, RepliesOfALaterLibraryAreReadAsFarAsTheyGo) {
  const Result<ControlReply> known =
      ParseReply("gpuroom 1 ok mood=good\nweather sun=1\nreport kept=7 new=8\nend\n");
  ASSERT_TRUE(known.ok());
  EXPECT_EQ(known->report->kept, 7u);
  EXPECT_EQ(ParseReply("gpuroom 1 tired\nend\n")->result, GPUROOM_FAILED);
  EXPECT_EQ(ParseReply("gpuroom 2 ok\nend\n").status().code(), Code::kUnsupported);
}

ProcessStats SomeStats() {
  ProcessStats stats;
  uint64_t next = 1;
  for (int i = 0; i < 2; ++i) {
    GpuStats gpu;
    gpu.device = next++;
    gpu.uuid = "GPU-" + std::to_string(i);
    gpu.hbm_limit = UINT64_MAX;
    gpu.moved_to_host = next++;
    stats.gpus.push_back(gpu);
  }
  for (TimeCounts* times : {&stats.standstills, &stats.moves, &stats.sleeps, &stats.wakes}) {
    for (uint64_t& count : times->counts) count = next++;
    times->nanoseconds = next++;
  }
  stats.backed_up = next++;
  stats.refusals[static_cast<size_t>(Code::kOutOfMemory)] = next++;
  stats.refused_code = "out_of_memory";
  stats.refused_text = "no room; free = 0\n";
  stats.refused_device = 1;
  stats.refused_bytes = next++;
  return stats;
}

TEST(ControlMessageTest, AProcessesFiguresAreReadBack) {
  ControlReply reply;
  reply.stats = SomeStats();
  const std::string text = FormatReply(reply);
  const Result<ControlReply> back = ParseReply(text);
  ASSERT_TRUE(back.ok()) << back.status().what();
  ASSERT_TRUE(back->stats.has_value());
  EXPECT_EQ(FormatReply(*back), text);
  ASSERT_EQ(back->stats->gpus.size(), 2u);
  EXPECT_EQ(back->stats->gpus[1].uuid, "GPU-1");
  EXPECT_EQ(back->stats->gpus[1].hbm_limit, UINT64_MAX);
  EXPECT_EQ(back->stats->wakes, reply.stats->wakes);
  EXPECT_EQ(back->stats->refusals, reply.stats->refusals);
  EXPECT_EQ(back->stats->refused_text, reply.stats->refused_text);
}

TEST(ControlMessageTest, AReplyWithoutFiguresHasNone) {
  EXPECT_FALSE(ParseReply("gpuroom 1 ok\nprocess version=0.1.0\nend\n")->stats.has_value());
  EXPECT_FALSE(ParseReply("gpuroom 1 ok\ngpu device=1\nend\n")->stats.has_value());
  EXPECT_FALSE(ParseReply("gpuroom 1 ok\nstats version=2\ngpu device=1\nend\n")->stats.has_value());
}

TEST(ControlMessageTest, TimesThatAreNotOneForEachBucketAreNone) {
  for (const char* counts :
       {"", "1", "1,2,3", "1,2,3,4,5,6,7,8,x", "1,2,3,4,5,6,7,8,9,10", "1,2,3,4,5,6,7,8,9,"}) {
    const Result<ControlReply> read =
        ParseReply(std::string("gpuroom 1 ok\nstats version=1\ntimes of=moves counts=") + counts +
                   " nanoseconds=7\nend\n");
    ASSERT_TRUE(read.ok() && read->stats);
    EXPECT_EQ(read->stats->moves, TimeCounts()) << counts;
  }
}

TEST(ControlMessageTest, ATagWithoutANameIsReadBack) {
  const Result<ControlReply> read = ParseReply("gpuroom 1 ok\ntag name#kv device=1\nend\n");
  ASSERT_TRUE(read.ok());
  ASSERT_EQ(read->tags.size(), 1u);
  EXPECT_STREQ(read->tags[0].tag, "");
}

TEST(ControlMessageTest, RepliesThatEndEarlyAreNoReplies) {
  const std::string whole = "gpuroom 1 ok\nreport kept=7\nend\n";
  ASSERT_TRUE(ParseReply(whole).ok());
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_EQ(ParseReply(whole.substr(0, length)).status().code(), Code::kNotFound) << length;
  EXPECT_EQ(ParseReply("HTTP/1.1 400\nend\n").status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace gpuroom
