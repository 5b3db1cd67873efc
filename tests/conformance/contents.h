// Checks of what memory holds, shared by the probes that move bytes.
#pragma once

#include <string>
#include <vector>

#include "session.h"

namespace gpuroom::conformance {

inline constexpr uint64_t kWordsPerChunk = kChunk / sizeof(uint64_t);

// What gpuroom_fill writes at word i is Mix(seed + i).
uint64_t Mix(uint64_t x);
std::vector<uint64_t> Pattern(uint64_t words, uint64_t seed);

// "right", or how many words are not gpuroom_fill's; asks the GPU.
std::string CheckByKernel(Session& s, CUdeviceptr p, uint64_t words, uint64_t seed);
// The same for host memory.
std::string CheckHere(const uint64_t* p, uint64_t words, uint64_t seed);
// "right" if all bytes have that value; copies them out.
std::string CheckBytes(Session& s, CUdeviceptr p, size_t bytes, unsigned char value);

// Fills with the kernel and waits for it.
void FillAndWait(Session& s, CUdeviceptr p, uint64_t words, uint64_t seed);

}  // namespace gpuroom::conformance
