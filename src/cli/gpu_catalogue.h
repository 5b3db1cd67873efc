// What GPUs are published to do, for a machine that cannot be asked or measured. Pure.
#pragma once

#include <string_view>

namespace gpuroom {

struct PublishedGpu {
  const char* name = nullptr;   // a part of the name that the driver gives
  double bytes_per_second = 0;  // of its own memory
  double bf16_flops = 0;        // dense products of 16-bit numbers, a second
};

// Null: a GPU that is not listed.
const PublishedGpu* FindPublished(std::string_view name);

}  // namespace gpuroom
