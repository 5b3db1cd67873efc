// Byte sizes: parsing what people write ("6GiB", "512M", "1.5g", "1048576")
// and printing what they read. Sizes are unsigned 64-bit bytes; nothing wraps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace gpuroom {

inline constexpr uint64_t kKiB = uint64_t{1} << 10;
inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;

// Accepts a decimal number (a fraction too) and an optional unit, in any case:
// B, K/KB/KiB, M/MB/MiB, G/GB/GiB, T/TB/TiB. All units are powers of 1024, as
// nvidia-smi and PyTorch count. Fails with kInvalidArgument on anything else,
// on a negative number and on more than 2^63-1 bytes.
Result<uint64_t> ParseSize(std::string_view text);

// "14.0 GiB", "512 KiB", "17 B": for people, at most four digits.
std::string FormatSize(uint64_t bytes);

constexpr bool IsMultiple(uint64_t bytes, uint64_t unit) { return bytes % unit == 0; }

// Smallest multiple of `unit` that is at least `bytes`. The caller keeps
// bytes + unit within 64 bits.
constexpr uint64_t RoundUp(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }
constexpr uint64_t RoundDown(uint64_t bytes, uint64_t unit) { return bytes / unit * unit; }

}  // namespace gpuroom
