// The checksum of backups: XXH3, 64 bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gpuroom {

uint64_t Checksum(const void* data, size_t bytes);

}  // namespace gpuroom
