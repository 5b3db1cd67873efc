#include "shim/options.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/env.h"
#include "base/log.h"
#include "base/size.h"

namespace headroom::shim {
namespace {

constexpr uint64_t kDefaultThreshold = 16 * kMiB;

uint64_t ReadBytes(const char* name, uint64_t fallback) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return fallback;
  const Result<uint64_t> bytes = ParseSize(text);
  if (bytes.ok()) return *bytes;
  Log(LogLevel::kWarn, "%s is '%s': %s; it is ignored", name, text, bytes.status().what());
  return fallback;
}

bool Flag(const char* name) {
  const char* text = std::getenv(name);
  return text != nullptr && std::strcmp(text, "1") == 0;
}

}  // namespace

Options ReadOptions() {
  Options options;
  options.hbm_limit = ReadBytes(env::kHbmLimit, Budget::kUnlimited);
  options.host_limit = ReadBytes(env::kHostLimit, 0);
  options.reserve = ReadBytes(env::kReserve, std::min(512 * kMiB, options.hbm_limit / 16));
  options.range_threshold = std::max(ReadBytes(env::kRangeThreshold, kDefaultThreshold), uint64_t{1});
  options.host_keep = ReadBytes(env::kHostKeep, options.host_limit / 4);
  const uint64_t most = 2 * kGiB;
  options.resident_below = ReadBytes(env::kResidentBelow, std::min(most, options.hbm_limit / 16));
  options.resident_below = std::max(options.resident_below, options.range_threshold);
  options.report = Flag(env::kReport);
  options.stats_file = std::getenv(env::kStatsFile);
  return options;
}

}  // namespace headroom::shim
