#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"

namespace gpuroom {
namespace {

// Standard error goes to a file for as long as one of these lives. A file, not
// a pipe: a pipe that fills up would stop the writer.
class CapturedStderr {
 public:
  CapturedStderr() : file_(std::tmpfile()), saved_(dup(STDERR_FILENO)) { dup2(fileno(file_), STDERR_FILENO); }
  ~CapturedStderr() {
    Restore();
    std::fclose(file_);
  }

  std::string Text() {
    Restore();
    std::string text;
    std::rewind(file_);
    for (int c = std::fgetc(file_); c != EOF; c = std::fgetc(file_)) text += static_cast<char>(c);
    return text;
  }

 private:
  void Restore() {
    if (saved_ < 0) return;
    dup2(saved_, STDERR_FILENO);
    close(saved_);
    saved_ = -1;
  }

  FILE* file_;
  int saved_;
};

class LogTest : public testing::Test {
 protected:
  void SetUp() override { SetLevel(nullptr); }
  void TearDown() override { SetLevel(nullptr); }

  static void SetLevel(const char* level) {
    if (level == nullptr) {
      unsetenv("GPUROOM_LOG");
    } else {
      setenv("GPUROOM_LOG", level, 1);
    }
    ResetLogForTest();
  }

  static std::string Prefix() { return "gpuroom[" + std::to_string(getpid()) + "] "; }
};

TEST_F(LogTest, WritesOneLineWithThePrefix) {
  CapturedStderr captured;
  Log(LogLevel::kWarn, "%s is %d", "answer", 42);
  EXPECT_EQ(captured.Text(), Prefix() + "answer is 42\n");
}

TEST_F(LogTest, ShowsWarningsButNotInfoByDefault) {
  EXPECT_TRUE(LogEnabled(LogLevel::kError));
  EXPECT_TRUE(LogEnabled(LogLevel::kWarn));
  EXPECT_FALSE(LogEnabled(LogLevel::kInfo));
  CapturedStderr captured;
  Log(LogLevel::kInfo, "quiet");
  EXPECT_EQ(captured.Text(), "");
}

TEST_F(LogTest, TakesTheLevelFromTheEnvironment) {
  SetLevel("off");
  EXPECT_FALSE(LogEnabled(LogLevel::kError));
  SetLevel("debug");
  EXPECT_TRUE(LogEnabled(LogLevel::kDebug));
  SetLevel("error");
  EXPECT_FALSE(LogEnabled(LogLevel::kWarn));
}

TEST_F(LogTest, KeepsTheDefaultWhenTheLevelIsUnknown) {
  SetLevel("loud");
  EXPECT_TRUE(LogEnabled(LogLevel::kWarn));
  EXPECT_FALSE(LogEnabled(LogLevel::kInfo));
}

TEST_F(LogTest, CutsALongLineAndStillEndsIt) {
  const std::string body(2000, 'x');
  CapturedStderr captured;
  Log(LogLevel::kWarn, "%s", body.c_str());
  const std::string text = captured.Text();
  EXPECT_EQ(text.size(), 511u);
  EXPECT_EQ(text.back(), '\n');
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(text.find('\0'), std::string::npos);
}

TEST_F(LogTest, WritesNoStrayByteAtTheCut) {
  for (size_t length = 480; length < 520; ++length) {
    const std::string body(length, 'y');
    CapturedStderr captured;
    Log(LogLevel::kError, "%s", body.c_str());
    const std::string text = captured.Text();
    const size_t kept = std::min(length, 510 - Prefix().size());
    EXPECT_EQ(text, Prefix() + std::string(kept, 'y') + "\n");
  }
}

// One line of each of twenty kinds.
void LogTwentyKinds(LogLevel level) {
  static constexpr const char* kFormats[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j",
                                             "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"};
  for (const char* format : kFormats) Log(level, format, 0);  // NOLINT: none of them takes an argument
}

TEST_F(LogTest, DropsWarningsAfterTwoHundredAndSaysSo) {
  CapturedStderr captured;
  for (int i = 0; i < 15; ++i) LogTwentyKinds(LogLevel::kWarn);
  const std::string text = captured.Text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 201);
  EXPECT_NE(text.find("further messages are dropped"), std::string::npos);
}

TEST_F(LogTest, WarningsOfOneKindLeaveRoomForOthers) {
  CapturedStderr captured;
  for (int i = 0; i < 100000; ++i) Log(LogLevel::kWarn, "somebody asked, the %d-th time", i);
  Log(LogLevel::kWarn, "a word about memory");
  const std::string text = captured.Text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 21);
  EXPECT_NE(text.find("the 19-th time (more like this are dropped)\n"), std::string::npos);
  EXPECT_NE(text.find("a word about memory"), std::string::npos);
}

TEST_F(LogTest, MoreKindsThanAreRememberedAreCountedTogether) {
  CapturedStderr captured;
  std::vector<std::string> formats;
  formats.reserve(150);
  for (int i = 0; i < 150; ++i) formats.push_back("kind " + std::to_string(i));
  for (const std::string& format : formats) Log(LogLevel::kWarn, format.c_str(), 0);  // NOLINT
  const std::string text = captured.Text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 150);
}

TEST_F(LogTest, ThreadsThatWarnOfTheSameCountItOnce) {
  CapturedStderr captured;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([] {
      for (int n = 0; n < 1000; ++n) Log(LogLevel::kWarn, "the same");
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string text = captured.Text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 20);
}

TEST_F(LogTest, NeverDropsErrors) {
  CapturedStderr captured;
  for (int i = 0; i < 250; ++i) Log(LogLevel::kError, "line");
  const std::string text = captured.Text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 250);
}

TEST_F(LogTest, KeepsErrno) {
  CapturedStderr captured;
  errno = ENOENT;
  Log(LogLevel::kWarn, "with errno");
  EXPECT_EQ(errno, ENOENT);
}

// Standard error is a pipe that nobody reads for as long as one of these lives.
class BrokenStderr {
 public:
  BrokenStderr() : saved_(dup(STDERR_FILENO)) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    close(ends[0]);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
  }
  ~BrokenStderr() {
    dup2(saved_, STDERR_FILENO);
    close(saved_);
  }

 private:
  const int saved_;
};

volatile std::sig_atomic_t g_pipe_signals = 0;

TEST_F(LogTest, ABrokenPipeSendsTheProgramNoSignal) {
  g_pipe_signals = 0;
  const auto before = std::signal(SIGPIPE, [](int) { g_pipe_signals = g_pipe_signals + 1; });
  {
    const BrokenStderr broken;
    errno = ENOENT;
    Log(LogLevel::kWarn, "nobody reads this");
    EXPECT_EQ(errno, ENOENT);
    EXPECT_EQ(g_pipe_signals, 0);
    // The program's own writes are answered as ever.
    EXPECT_EQ(write(STDERR_FILENO, "x", 1), -1);
    EXPECT_EQ(g_pipe_signals, 1);
  }
  std::signal(SIGPIPE, before);
}

TEST_F(LogTest, ASignalThatTheProgramKeepsPendingStays) {
  sigset_t pipe_alone;
  sigset_t pending;
  sigset_t before;
  sigemptyset(&pipe_alone);
  sigaddset(&pipe_alone, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_alone, &before);
  pthread_kill(pthread_self(), SIGPIPE);
  {
    const BrokenStderr broken;
    Log(LogLevel::kWarn, "nobody reads this");
  }
  sigpending(&pending);
  EXPECT_EQ(sigismember(&pending, SIGPIPE), 1);
  int taken = 0;
  sigwait(&pipe_alone, &taken);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace
}  // namespace gpuroom
