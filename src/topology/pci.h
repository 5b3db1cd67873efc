// GPUs and their links as the PCI bus shows them in /sys/bus/pci/devices: no
// driver needed. Stateless; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "topology/sysroot.h"

namespace gpuroom {

struct PciLink {
  bool known = false;
  int generation = 0;  // 1-7
  int width = 0;       // lanes
  // What a large pinned copy reaches in one direction: signalling rate less
  // encoding and packet overhead (0.86 of the payload rate, as measured).
  double GigabytesPerSecond() const;
};

struct PciGpu {
  std::string address;  // "0000:17:00.0"
  int numa_node = -1;   // -1: the firmware does not say
  PciLink current;
  PciLink maximum;
};

// "16.0 GT/s PCIe" as 4; 0 when unknown.
int PcieGeneration(std::string_view speed);
// "00000000:17:00.0", as CUDA and NVML write it, in the kernel's form "0000:17:00.0".
std::string NormalizePciAddress(std::string_view address);

PciGpu ReadPciGpu(const Sysroot& root, std::string_view address);
// NVIDIA's display and 3D controllers, by address.
std::vector<PciGpu> ListNvidiaGpus(const Sysroot& root);

}  // namespace gpuroom
