// Monotonic time in nanoseconds.
#pragma once

#include <cstdint>
#include <ctime>

namespace headroom {

inline uint64_t NowNanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace headroom
