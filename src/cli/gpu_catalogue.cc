#include "cli/gpu_catalogue.h"

#include <algorithm>
#include <iterator>

namespace gpuroom {
namespace {

constexpr double kGiga = 1e9;
constexpr double kTera = 1e12;

// NVIDIA's data sheets, without sparsity; of GeForce cards with 32-bit sums. A longer name goes before one
// that it contains.
constexpr PublishedGpu kPublished[] = {
    {"GB300", 8000 * kGiga, 2500 * kTera},
    {"GB200", 8000 * kGiga, 2500 * kTera},
    {"B300", 8000 * kGiga, 2250 * kTera},
    {"B200", 8000 * kGiga, 2250 * kTera},
    {"GB10", 273 * kGiga, 125 * kTera},
    {"GH200 144G", 4900 * kGiga, 990 * kTera},
    {"GH200", 4000 * kGiga, 990 * kTera},
    {"H200", 4800 * kGiga, 989 * kTera},
    {"H100 NVL", 3900 * kGiga, 835 * kTera},
    {"H100 PCIe", 2000 * kGiga, 756 * kTera},
    {"H100", 3350 * kGiga, 989 * kTera},
    {"H20", 4000 * kGiga, 148 * kTera},
    {"A100-SXM4-80GB", 2039 * kGiga, 312 * kTera},
    {"A100 80GB PCIe", 1935 * kGiga, 312 * kTera},
    {"A100", 1555 * kGiga, 312 * kTera},
    {"L40S", 864 * kGiga, 362 * kTera},
    {"L40", 864 * kGiga, 181 * kTera},
    {"RTX 6000 Ada", 960 * kGiga, 364 * kTera},
    {"RTX PRO 6000", 1792 * kGiga, 504 * kTera},
    {"RTX 5090", 1792 * kGiga, 210 * kTera},
    {"RTX 4090", 1008 * kGiga, 165 * kTera},
    {"RTX 3090", 936 * kGiga, 71 * kTera},
    {"A40", 696 * kGiga, 150 * kTera},
    {"A10", 600 * kGiga, 125 * kTera},
    {"L4", 300 * kGiga, 121 * kTera},
    {"V100", 900 * kGiga, 125 * kTera},
    {"T4", 320 * kGiga, 65 * kTera},
};

}  // namespace

const PublishedGpu* FindPublished(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kPublished), std::end(kPublished),
                   [name](const PublishedGpu& gpu) { return name.find(gpu.name) != std::string_view::npos; });
  return found == std::end(kPublished) ? nullptr : found;
}

}  // namespace gpuroom
