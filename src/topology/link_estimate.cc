#include "topology/link_estimate.h"

#include <algorithm>

namespace gpuroom {
namespace {

constexpr double kGigabyte = 1e9;
// Kernels on an H200 read HBM at 4,560 GB/s (docs/measurements.md), where clock
// and width of its bus (3,201 MHz, 6,144 bits, two transfers a clock) give 4,917.
constexpr double kMemoryEfficiency = 0.93;
constexpr double kUnknownDevice = 1000 * kGigabyte;  // less than any data centre GPU's since 2020
// Kernels on an H200 read host memory at 51.3 GB/s directly, where the copy engine,
// which PciLink speaks of, reaches 55.4: measured.
constexpr double kKernelReads = 0.95;
constexpr double kPcie5x16 = 52 * kGigabyte;
// Grace to Hopper: 342-375 GB/s published, and not ours.
constexpr double kC2c = 350 * kGigabyte;
constexpr double kUnified = 273 * kGigabyte;  // GB10's LPDDR5X, published
constexpr double kNvlink = 370 * kGigabyte;   // 18 links of an H200: 375, measured

int LinkAttribute(const Driver& driver, CUdevice device, CUdevice_attribute attribute) {
  int value = 0;
  return driver.DeviceGetAttribute(&value, attribute, device) == CUDA_SUCCESS ? std::max(value, 0) : 0;
}

// Atomics pass over NVLink and not over PCIe, which is how the driver lets them be told apart.
PeerPath PathBetween(const Driver& driver, CUdevice from, CUdevice to) {
  int value = 0;
  if (driver.DeviceCanAccessPeer(&value, from, to) != CUDA_SUCCESS || value == 0) return PeerPath::kNone;
  if (driver.DeviceGetP2PAttribute == nullptr) return PeerPath::kPcie;
  const CUresult result =
      driver.DeviceGetP2PAttribute(&value, CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED, from, to);
  return result == CUDA_SUCCESS && value == 1 ? PeerPath::kNvlink : PeerPath::kPcie;
}

PeerPath SlowestPath(const Driver& driver, CUdevice device) {
  PeerPath slowest = PeerPath::kNone;
  int count = 0;
  if (driver.DeviceGetCount(&count) != CUDA_SUCCESS) return slowest;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    CUdevice other = 0;
    if (driver.DeviceGet(&other, ordinal) != CUDA_SUCCESS || other == device) continue;
    const PeerPath path = PathBetween(driver, device, other);
    if (path == PeerPath::kNone) continue;
    slowest = slowest == PeerPath::kNone ? path : std::min(slowest, path);
  }
  return slowest;
}

// An idle link runs at a lower generation than it will, but at its true width.
double PcieSpeed(const LinkFacts& facts) {
  if (!facts.current.known) return kPcie5x16;
  PciLink link = facts.current;
  if (facts.maximum.known) link.generation = std::max(link.generation, facts.maximum.generation);
  return link.GigabytesPerSecond() * kGigabyte * kKernelReads;
}

double DeviceSpeed(const LinkFacts& facts) {
  if (facts.memory_clock_khz > 0 && facts.memory_bus_bits > 0) {
    return 2e3 * facts.memory_clock_khz * (facts.memory_bus_bits / 8.0) * kMemoryEfficiency;
  }
  return facts.integrated ? kUnified : kUnknownDevice;
}

double HostSpeed(const LinkFacts& facts) {
  if (facts.integrated) return kUnified;
  return facts.coherent ? kC2c : PcieSpeed(facts);
}

double PeerSpeed(const LinkFacts& facts) {
  switch (facts.peer) {
    case PeerPath::kNone: return 0;
    case PeerPath::kPcie: return PcieSpeed(facts);
    case PeerPath::kNvlink: return kNvlink;
  }
  return 0;
}

// Within what LinkSpeeds may be; 0 stays 0.
uint64_t Whole(double speed) {
  if (speed <= 0) return 0;
  return static_cast<uint64_t>(
      std::clamp(speed, static_cast<double>(kSlowestLink), static_cast<double>(kFastestLink)));
}

}  // namespace

LinkFacts ReadLinkFacts(const Driver& driver, CUdevice device, const Sysroot& root) {
  LinkFacts facts;
  facts.memory_clock_khz = LinkAttribute(driver, device, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
  facts.memory_bus_bits = LinkAttribute(driver, device, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
  facts.integrated = LinkAttribute(driver, device, CU_DEVICE_ATTRIBUTE_INTEGRATED) == 1;
  facts.coherent =
      LinkAttribute(driver, device, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES) == 1;
  char address[32] = "";
  if (driver.DeviceGetPCIBusId(address, sizeof address, device) == CUDA_SUCCESS) {
    address[sizeof address - 1] = '\0';
    const PciGpu pci = ReadPciGpu(root, address);
    facts.current = pci.current;
    facts.maximum = pci.maximum;
  }
  facts.peer = SlowestPath(driver, device);
  return facts;
}

LinkSpeeds EstimateFrom(const LinkFacts& facts) {
  return {Whole(DeviceSpeed(facts)), Whole(PeerSpeed(facts)), Whole(HostSpeed(facts))};
}

LinkSpeeds EstimateLinkSpeeds(const Driver& driver, CUdevice device) {
  return EstimateFrom(ReadLinkFacts(driver, device, Sysroot("/")));
}

}  // namespace gpuroom
