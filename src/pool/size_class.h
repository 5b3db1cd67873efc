// Sizes: what a request is rounded to, and how large a segment it is cut from.
//
// Below 8 MiB a request gets one of 96 classes, eight to each doubling, so that
// at most an eighth of it is wasted (512 bytes are the least). Above, whole MiB
// or, from 16 MiB on, multiples of 2 MiB.
//
// Segments are as PyTorch's allocator has them, since what people know of
// fragmentation comes from there: up to 1 MiB is cut from segments of 2 MiB,
// below 10 MiB from segments of 20 MiB, and what is larger gets a segment of
// its own, which later smaller requests may be cut from.
#pragma once

#include <bit>
#include <cstdint>

#include "base/size.h"

namespace gpuroom {

inline constexpr uint64_t kUnitBytes = 512;         // of small segments
inline constexpr uint64_t kLargeUnit = 128 * kKiB;  // of the others
inline constexpr uint64_t kSmallMost = kMiB;
inline constexpr uint64_t kClassMost = 8 * kMiB;
inline constexpr uint64_t kOwnSegment = 10 * kMiB;
inline constexpr uint64_t kSmallSegment = 2 * kMiB;
inline constexpr uint64_t kLargeSegment = 20 * kMiB;
inline constexpr uint64_t kSegmentUnit = 2 * kMiB;
inline constexpr uint64_t kRequestMost = uint64_t{1} << 56;  // beyond any address space
inline constexpr int kClasses = 96;

// 0 <= class < kClasses, for 1 <= bytes <= kClassMost.
constexpr int ClassOf(uint64_t bytes) {
  const uint64_t units = (bytes - 1) / kUnitBytes;
  if (units < 8) return static_cast<int>(units);
  const int shift = std::bit_width(units) - 4;
  return 8 * shift + static_cast<int>(units >> shift);
}

// The largest request of a class, which is what each of its blocks holds.
constexpr uint64_t ClassBytes(int size_class) {
  if (size_class < 16) return (static_cast<uint64_t>(size_class) + 1) * kUnitBytes;
  const int shift = size_class / 8 - 1;
  return ((static_cast<uint64_t>(size_class) % 8 + 9) << shift) * kUnitBytes;
}

// What a request of 1 to kRequestMost bytes takes.
constexpr uint64_t RoundedBytes(uint64_t bytes) {
  if (bytes <= kClassMost) return ClassBytes(ClassOf(bytes));
  return RoundUp(bytes, bytes <= 16 * kMiB ? kMiB : 2 * kMiB);
}

// The segment that a rounded size is cut from.
constexpr uint64_t SegmentBytes(uint64_t rounded) {
  if (rounded <= kSmallMost) return kSmallSegment;
  return rounded < kOwnSegment ? kLargeSegment : RoundUp(rounded, kSegmentUnit);
}

}  // namespace gpuroom
