// VLLM_ROCM_SLEEP_MEM_CHUNK_SIZE: how large one physical allocation on an AMD GPU is, in MB of 2^20 bytes.
#pragma once

#include <cstdint>

namespace gpuroom::cumem {

inline constexpr uint64_t kDefaultChunkBytes = uint64_t{256} << 20;

// Decimal or, after 0x, hexadecimal; null or empty: the default. False where it is not understood, with the
// default in *bytes.
bool ParseChunkSize(const char* text, uint64_t* bytes);

// What the variable says. A bad value is named on standard error.
uint64_t ChunkBytesFromEnvironment();

}  // namespace gpuroom::cumem
