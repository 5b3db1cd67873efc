// Estimates of link speeds for a GPU that nobody has measured (`gpuroom bench
// tiers` measures). Reads attributes and /sys alone: creates no context,
// allocates no GPU memory. Any thread.
#pragma once

#include "driver/driver.h"
#include "topology/link_speeds.h"
#include "topology/pci.h"
#include "topology/sysroot.h"

namespace gpuroom {

enum class PeerPath { kNone, kPcie, kNvlink };

// What an estimate rests on. Numbers that nobody gave are 0.
struct LinkFacts {
  int memory_clock_khz = 0;  // CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE
  int memory_bus_bits = 0;   // CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH
  bool integrated = false;   // host memory is its own
  bool coherent = false;     // NVLink-C2C
  PciLink current;
  PciLink maximum;
  PeerPath peer = PeerPath::kNone;  // the slowest path to a GPU in reach
};

// After cuInit. What the driver does not say stays as it is.
LinkFacts ReadLinkFacts(const Driver& driver, CUdevice device, const Sysroot& root);

// Pure; the figures' sources are beside them in the code.
LinkSpeeds EstimateFrom(const LinkFacts& facts);

// After cuInit. Never fails: what is not known is taken for an H200's, or, of
// HBM, for little.
LinkSpeeds EstimateLinkSpeeds(const Driver& driver, CUdevice device);

}  // namespace gpuroom
