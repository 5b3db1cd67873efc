// Every parser of a text of /proc and /sys, of nvidia-smi and of dmidecode, on one text.
#include "fuzz.h"
#include "topology/dmi.h"
#include "topology/host_model.h"
#include "topology/memory_files.h"
#include "topology/nvidia_files.h"
#include "topology/pci.h"

using gpuroom::fuzz::Require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = gpuroom::fuzz::Input(data, size).TakeRest();
  const gpuroom::MemInfo info = gpuroom::ParseMemInfo(text);
  Require(info.GetOr("MemTotal", 0) <= INT64_MAX, "a field is at most 2^63-1 bytes");
  (void)gpuroom::ReclaimableBytes(info);
  const gpuroom::IoMem iomem = gpuroom::ParseIoMem(text);
  Require(iomem.RamBytes() <= INT64_MAX && iomem.NvidiaBytes() <= INT64_MAX,
          "regions add up without overflow");
  for (const gpuroom::GpuHint& gpu : gpuroom::ParseNvidiaSmi(text)) {
    Require(!gpu.name.empty() && !gpu.pci_address.empty(), "a row that names a GPU has its address");
    (void)gpuroom::NormalizePciAddress(gpu.pci_address);
    (void)gpuroom::LpddrFromName(gpu.name);
  }
  constexpr uint64_t kPebibyte = uint64_t{1} << 50;
  Require(gpuroom::ParseDmidecode(text) <= kPebibyte, "memory of dmidecode is plausible");
  Require(gpuroom::ParseDmiTable(text) <= kPebibyte, "memory of the DMI table is plausible");
  Require(gpuroom::LpddrFromName(text) <= kPebibyte, "memory of a name is plausible");
  (void)gpuroom::ParseNvidiaVersion(text);
  (void)gpuroom::ParseCoherentMode(text);
  (void)gpuroom::NormalizePciAddress(text);
  Require(gpuroom::PcieGeneration(text) <= 7, "a generation is one that there is");
  for (const int id : gpuroom::ParseIdList(text)) Require(id >= 0 && id <= 4095, "an id is a node's");
  return 0;
}
