// Monotonic time in nanoseconds.
#pragma once

#include <cstdint>
#include <ctime>

namespace gpuroom {

inline constexpr uint64_t kMillisecond = 1'000'000;

inline uint64_t ReadClock(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 * kMillisecond + static_cast<uint64_t>(now.tv_nsec);
}

inline uint64_t NowNanoseconds() { return ReadClock(CLOCK_MONOTONIC); }

// To a few milliseconds, without reading the hardware: on virtual machines whose
// clock takes a system call the exact one costs 300 ns, this one 5.
inline uint64_t CoarseNanoseconds() { return ReadClock(CLOCK_MONOTONIC_COARSE); }

}  // namespace gpuroom
