#include "base/log.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "base/env.h"
#include "base/write_signals.h"

namespace gpuroom {
namespace {

constexpr int kMaxLines = 200;
constexpr int kMaxWarningsOfAKind = 20;
constexpr int kUnread = -1;
std::atomic<int> g_level{kUnread};
std::atomic<int> g_lines{0};

int ReadLevel() {
  static constexpr const char* kNames[] = {"off", "error", "warn", "info", "debug"};
  const char* text = env::Find(env::kLog);
  if (text == nullptr) return static_cast<int>(LogLevel::kWarn);
  for (int i = 0; i < 5; ++i) {
    if (std::strcmp(text, kNames[i]) == 0) return i;
  }
  return static_cast<int>(LogLevel::kWarn);
}

// Counts up to `most` and stays there. Returns the count before.
int CountTo(int most, std::atomic<int>& count) {
  int before = count.load(std::memory_order_relaxed);
  while (before < most && !count.compare_exchange_weak(before, before + 1, std::memory_order_relaxed)) {
  }
  return before;
}

// Warnings of one kind have the same format string: a literal, so its address stands for it.
struct Kind {
  std::atomic<const char*> format{nullptr};  // null: not in use
  std::atomic<int> lines{0};
};
Kind g_kinds[128];

// How many warnings of this kind there were; 0 where the table has no room for one more kind.
int CountWarning(const char* format) {
  for (Kind& kind : g_kinds) {
    const char* there = kind.format.load(std::memory_order_relaxed);
    if (there == nullptr && kind.format.compare_exchange_strong(there, format, std::memory_order_relaxed))
      there = format;
    if (there == format) return CountTo(kMaxWarningsOfAKind, kind.lines);
  }
  return 0;
}

// Puts `more` at the end of the `length` bytes of `text`, over their end where `size` has no room for both.
// Returns the length.
size_t Append(std::string_view more, char* text, size_t length, size_t size) {
  const size_t at = std::min(length, size - more.size());
  std::memcpy(text + at, more.data(), more.size());
  return at + more.size();
}

void WriteLine(const char* text, size_t length) {
  const WriteSignalsBlocked blocked;  // standard error may be a pipe that nobody reads any more
  while (length > 0) {
    const ssize_t n = write(STDERR_FILENO, text, length);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text += n;
    length -= static_cast<size_t>(n);
  }
}

}  // namespace

bool LogEnabled(LogLevel level) {
  int current = g_level.load(std::memory_order_relaxed);
  if (current == kUnread) {
    current = ReadLevel();
    g_level.store(current, std::memory_order_relaxed);
  }
  return static_cast<int>(level) <= current;
}

void Log(LogLevel level, const char* format, ...) {
  if (!LogEnabled(level)) return;
  const int saved_errno = errno;
  const int of_this_kind = level == LogLevel::kWarn ? CountWarning(format) : 0;
  if (of_this_kind == kMaxWarningsOfAKind) return;
  const bool last_of_this_kind = of_this_kind == kMaxWarningsOfAKind - 1;
  if (level == LogLevel::kWarn || level == LogLevel::kInfo) {
    const int line = CountTo(kMaxLines + 1, g_lines);
    if (line > kMaxLines) return;
    if (line == kMaxLines) format = "further messages are dropped";
  }
  char text[512];
  const int prefix = std::snprintf(text, sizeof text, "gpuroom[%d] ", static_cast<int>(getpid()));
  va_list args;
  va_start(args, format);
  const int body = std::vsnprintf(text + prefix, sizeof text - static_cast<size_t>(prefix) - 1, format, args);
  va_end(args);
  size_t length = static_cast<size_t>(prefix) + static_cast<size_t>(body < 0 ? 0 : body);
  if (length > sizeof text - 2) length = sizeof text - 2;
  if (last_of_this_kind) length = Append(" (more like this are dropped)", text, length, sizeof text - 1);
  text[length] = '\n';
  WriteLine(text, length + 1);
  errno = saved_errno;
}

void ResetLogForTest() {
  g_level.store(kUnread);
  g_lines.store(0);
  for (Kind& kind : g_kinds) {
    kind.format.store(nullptr);
    kind.lines.store(0);
  }
}

}  // namespace gpuroom
