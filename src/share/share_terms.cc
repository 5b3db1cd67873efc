#include "share/share_terms.h"

#include "base/clock.h"
#include "base/env.h"
#include "base/interval.h"
#include "base/log.h"
#include "base/size.h"

namespace gpuroom {
namespace {

// Without launches for so long, a program gives its memory to others at once.
constexpr uint64_t kIdleAfter = 100 * kMillisecond;

// Nanoseconds.
uint64_t ReadInterval(const char* name, uint64_t fallback) {
  const char* text = env::Find(name);
  if (text == nullptr) return fallback;
  const Result<uint64_t> value = ParseInterval(text);
  if (value.ok()) return *value * kMillisecond;
  Log(LogLevel::kWarn, "%s is '%.64s', which is %s; it is ignored", name, text, value.status().what());
  return fallback;
}

uint64_t ReadReserve() {
  const char* text = env::Find(env::kShareReserve);
  if (text == nullptr) return 0;
  const Result<uint64_t> bytes = ParseSize(text);
  if (bytes.ok()) return *bytes;
  Log(LogLevel::kWarn, "%s is '%.64s', which is no size; it is ignored", env::kShareReserve, text);
  return 0;
}

SharePriority ReadPriority() {
  const char* text = env::Find(env::kSharePriority);
  if (text == nullptr) return SharePriority::kNormal;
  const std::optional<SharePriority> priority = ParseSharePriority(text);
  if (!priority) {
    Log(LogLevel::kWarn, "%s is '%.64s', not batch, normal or interactive; it is ignored",
        env::kSharePriority, text);
  }
  return priority.value_or(SharePriority::kNormal);
}

}  // namespace

std::optional<SharePriority> ParseSharePriority(std::string_view text) {
  if (text == "batch") return SharePriority::kBatch;
  if (text == "normal") return SharePriority::kNormal;
  if (text == "interactive") return SharePriority::kInteractive;
  return std::nullopt;
}

ShareTerms ReadShareTerms() {
  return {ReadPriority(), ReadReserve(), ReadInterval(env::kShareQuantum, 0),
          ReadInterval(env::kIdleAfter, kIdleAfter)};
}

}  // namespace gpuroom
