// The machine that is simulated: GPUs, host nodes, links and driver version.
// Parsed once from GPUROOM_SIM; immutable afterwards. A profile is a name
// (h200, gh200-egm, ...) or a specification such as "2x80GiB,host=256GiB".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gpuroom::sim {

inline constexpr uint64_t kKiB = uint64_t{1} << 10;
inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;
inline constexpr uint64_t kGranularity = 2 * kMiB;

enum class PeerLink { kNone, kPcie, kNvlink };

struct Profile {
  std::string name = "Simulated GPU";
  int devices = 1;
  uint64_t hbm = 0;   // bytes per device, as cuDeviceTotalMem gives it
  uint64_t host = 0;  // bytes of all host nodes together
  int nodes = 1;
  uint64_t os =
      0;  // bytes that the OS has where the host memory is the GPU's alone (EGM); 0: it has all of `host`
  bool coherent = false;    // NVLink-C2C: the GPU reads pageable memory, the host reads HBM
  bool integrated = false;  // one memory for both (GB10)
  PeerLink peer = PeerLink::kNvlink;
  int driver = 13000;
  int compute_major = 9;
  int compute_minor = 0;
  int multiprocessors = 132;
  int pcie_generation = 5;
  int pcie_width = 16;
  int memory_clock_khz = 3201000;  // of HBM, two transfers a clock; an H200's where nothing else is said
  int memory_bus_bits = 6144;

  // HBM that a context takes for itself; small profiles are for exact counting.
  uint64_t ContextOverhead() const { return hbm >= 16 * kGiB ? 512 * kMiB : 0; }
  uint64_t NodeCapacity(int node) const;
};

// On a malformed profile: false, one sentence in *error, and *out as it was. At most 16 devices and
// nodes, and 1 PiB of each memory.
bool ParseProfile(std::string_view text, Profile* out, std::string* error);

}  // namespace gpuroom::sim
