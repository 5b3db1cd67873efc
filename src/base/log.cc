#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "base/env.h"
#include "base/write_signals.h"

namespace gpuroom {
namespace {

constexpr int kMaxLines = 200;
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
  if (level == LogLevel::kWarn || level == LogLevel::kInfo) {
    const int line = g_lines.fetch_add(1, std::memory_order_relaxed);
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
  text[length] = '\n';
  WriteLine(text, length + 1);
  errno = saved_errno;
}

void ResetLogForTest() {
  g_level.store(kUnread);
  g_lines.store(0);
}

}  // namespace gpuroom
