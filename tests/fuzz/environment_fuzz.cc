// What the preloaded library reads from the environment. Each line is the value of one variable, in the order
// below.
#include <cstdlib>
#include <string>
#include <vector>

#include "base/env.h"
#include "fuzz.h"
#include "runtime/options.h"

namespace {

constexpr uint64_t kGpuBytes = uint64_t{80} << 30;
constexpr const char* kNames[] = {gpuroom::env::kHbmLimit,
                                  gpuroom::env::kHostLimit,
                                  gpuroom::env::kReserve,
                                  gpuroom::env::kRangeThreshold,
                                  gpuroom::env::kPolicy,
                                  gpuroom::env::kResidentBelow,
                                  gpuroom::env::kExpect,
                                  gpuroom::env::kPeers,
                                  gpuroom::env::kRules,
                                  gpuroom::env::kLinkSpeeds,
                                  gpuroom::env::kHostAhead,
                                  gpuroom::env::kBackend,
                                  gpuroom::env::kPrefetchBelow,
                                  gpuroom::env::kOversubscriptionRatio,
                                  gpuroom::env::kAllowOversubscription,
                                  gpuroom::env::kHostKeep,
                                  gpuroom::env::kStatsInterval,
                                  gpuroom::env::kHostPart,
                                  gpuroom::env::kKeptIsFree};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::string> entries;
  gpuroom::fuzz::Input input(data, size);
  // putenv(3) and not setenv(3), which keeps every value for good.
  for (const char* name : kNames) entries.push_back(std::string(name) + "=" + std::string(input.TakeLine()));
  for (std::string& entry : entries) putenv(entry.data());
  const gpuroom::Options options = gpuroom::ReadOptions();
  gpuroom::fuzz::Require(options.range_threshold > 0, "the threshold is not zero");
  gpuroom::fuzz::Require(options.ResidentBelow(kGpuBytes) >= options.range_threshold,
                         "small data stays in HBM");
  for (const char* name : kNames) unsetenv(name);
  return 0;
}
