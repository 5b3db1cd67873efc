// Failures of driver calls: one thread has them begin and end, for all.
#include "walker.h"

namespace gpuroom::soak {

Outcome Walker::ChangeWeather() {
  if (id_ != 0 || !shared_.settings.failures) return Outcome::kIdle;
  if (weather_ends_ != 0) {
    if (step_ < weather_ends_) return Outcome::kIdle;
    shared_.weather.End();
    weather_ends_ = 0;
    return Outcome::kDone;
  }
  static constexpr const char* kCalls[] = {"cuMemCreate",      "cuMemMap",          "cuMemUnmap",
                                           "cuMemSetAccess",   "cuMemRelease",      "cuMemAddressReserve",
                                           "cuMemAddressFree", "cuMemcpyDtoDAsync", "cuStreamSynchronize",
                                           "cuEventRecord",    "cuEventQuery",      "cuCtxSynchronize"};
  std::string rule;
  switch (Random(3)) {
    case 0: rule = "seed:" + std::to_string(Random(1000000)) + ":" + std::to_string(1 + Random(12)); break;
    case 1: rule = "*:" + std::to_string(1 + Random(60)); break;
    default:
      rule = std::string(kCalls[Random(std::size(kCalls))]) + ":" + std::to_string(1 + Random(4));
      if (Chance(50)) rule += ":CUDA_ERROR_UNKNOWN";
  }
  shared_.weather.Begin(rule);
  weather_ends_ = step_ + 1 + Random(300);
  return Outcome::kDone;
}

}  // namespace gpuroom::soak
