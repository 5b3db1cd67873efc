#include "cli/doctor_gpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/size.h"
#include "cli/link_choice.h"

namespace gpuroom {
namespace {

constexpr char kGroup[] = "gpu";

std::string Named(int ordinal, const char* name) { return fmt::format("gpu{}.{}", ordinal, name); }

std::string LinkText(const PciLink& link) { return fmt::format("PCIe {} x{}", link.generation, link.width); }

Fact PcieFact(const std::string& name, const PciLink& current, const PciLink& maximum) {
  Fact fact{kGroup, name, FactStatus::kOk, LinkText(current), "", "", {}};
  fact.meaning = fmt::format("About {:.0f} GB/s to the host (estimated): what spilled data is read at.",
                             current.GigabytesPerSecond());
  if (!maximum.known) return fact;
  const bool narrow = current.width < maximum.width;
  const bool slow = current.generation < maximum.generation;
  if (!narrow && !slow) return fact;
  fact.status = FactStatus::kWarn;
  fact.value += fmt::format(", below its maximum of {}", LinkText(maximum));
  fact.meaning += fmt::format(" At its maximum it would be about {:.0f} GB/s.", maximum.GigabytesPerSecond());
  fact.fix =
      narrow ? "seat the card in a slot with all lanes, and check risers and the BIOS's bifurcation"
             : "look again while the GPU is busy (idle links slow down to save power), then check the slot "
               "and the BIOS";
  return fact;
}

Fact LinkFact(int ordinal, const HostLink& link) {
  const std::string name = Named(ordinal, "link");
  const double rate = link.gigabytes_per_second;
  switch (link.kind) {
    case HostLinkKind::kPcie: return PcieFact(name, link.current, link.maximum);
    case HostLinkKind::kC2c:
      return {kGroup,
              name,
              FactStatus::kOk,
              "NVLink-C2C, coherent",
              fmt::format("About {:.0f} GB/s to the host (estimated from published figures).", rate),
              "",
              {}};
    case HostLinkKind::kUnified:
      return {kGroup,
              name,
              FactStatus::kOk,
              "none: host and GPU share one memory",
              fmt::format("About {:.0f} GB/s for both (estimated from published figures).", rate),
              "",
              {}};
    case HostLinkKind::kUnknown: break;
  }
  return {kGroup,
          name,
          FactStatus::kWarn,
          "unknown",
          "The PCI bus in /sys does not show this GPU's link.",
          "mount /sys; in a virtual machine ask the host",
          {}};
}

Fact MemoryFact(const Gpu& gpu, uint64_t free_bytes) {
  Fact fact{
      kGroup,         Named(gpu.ordinal, "memory"), FactStatus::kOk, FormatSize(gpu.total_bytes), "", "",
      gpu.total_bytes};
  if (free_bytes == 0) return fact;
  fact.value += fmt::format(", {} free", FormatSize(free_bytes));
  if (free_bytes < gpu.total_bytes / 10 * 9) {
    fact.status = FactStatus::kWarn;
    fact.meaning = "Something uses this GPU already.";
    fact.fix = "see nvidia-smi for who does, or give --hbm-limit";
  }
  return fact;
}

Fact AttributesFact(const Gpu& gpu) {
  const std::pair<const char*, bool> promised[] = {
      {"VMM", gpu.vmm},
      {"host-NUMA VMM", gpu.host_numa_vmm},
      {"memory pools", gpu.memory_pools},
      {"POSIX handles", gpu.posix_handles},
      {"fabric handles", gpu.fabric_handles},
      {"RDMA with VMM", gpu.rdma_with_vmm},
      {"concurrent managed access", gpu.concurrent_managed},
      {"pageable access", gpu.pageable_memory_access},
      {"host page tables", gpu.uses_host_page_tables},
  };
  std::vector<std::string> has;
  std::vector<std::string> lacks;
  for (const auto& [name, present] : promised) (present ? has : lacks).emplace_back(name);
  Fact fact{kGroup, Named(gpu.ordinal, "attributes"), FactStatus::kOk, "", "", "", {}};
  fact.value = has.empty() ? "none" : fmt::format("{}", fmt::join(has, ", "));
  if (!lacks.empty()) fact.meaning = fmt::format("Not: {}.", fmt::join(lacks, ", "));
  return fact;
}

Fact HostNodeFact(const Gpu& gpu) {
  Fact fact{kGroup, Named(gpu.ordinal, "host_node"), FactStatus::kOk, "", "", "", {}};
  if (gpu.host_numa_node >= 0) {
    fact.value = fmt::format("{}", gpu.host_numa_node);
    fact.meaning = "The NUMA node nearest to the GPU; its host chunks come from there.";
    return fact;
  }
  fact.status = FactStatus::kWarn;
  fact.value = "unknown";
  fact.meaning = "The driver names no host NUMA node; node 0 is used.";
  return fact;
}

Fact PeersFact(const Gpu& gpu) {
  Fact fact{kGroup, Named(gpu.ordinal, "peers"), FactStatus::kOk, "", "", "", {}};
  std::vector<std::string> reached;
  std::vector<int> refused;
  for (const GpuPeer& peer : gpu.peers) {
    if (!peer.access) {
      refused.push_back(peer.ordinal);
    } else if (peer.performance_rank >= 0) {
      reached.push_back(fmt::format("GPU {} (rank {})", peer.ordinal, peer.performance_rank));
    } else {
      reached.push_back(fmt::format("GPU {}", peer.ordinal));
    }
  }
  fact.value = reached.empty() ? "none reachable" : fmt::format("{}", fmt::join(reached, ", "));
  fact.meaning = "Rank 0 is the fastest link.";
  const int rank = gpu.peers[0].performance_rank;
  const bool same = std::all_of(gpu.peers.begin(), gpu.peers.end(), [rank](const GpuPeer& peer) {
    return peer.access && peer.performance_rank == rank;
  });
  if (same) fact.shared_value = rank < 0 ? "all the others" : fmt::format("all the others (rank {})", rank);
  if (refused.empty()) return fact;
  fact.meaning = fmt::format("No peer access to GPU {}: their idle HBM cannot serve this one.",
                             fmt::join(refused, ", "));
  return fact;
}

}  // namespace

void AddSimFact(const std::string& profile, DoctorReport* report) {
  report->Add({"driver",
               "simulated",
               FactStatus::kOk,
               profile,
               "A simulated driver stands in for a GPU: what follows about GPUs is the profile's, not this "
               "machine's.",
               "",
               {}});
}

void AddKernelDriverFact(const NvidiaFiles& files, DriverState state, DoctorReport* report) {
  Fact fact{"driver", "kernel", FactStatus::kOk, files.version, "The NVIDIA kernel driver.", "", {}};
  const bool older = files.major > 0 && files.major < 580;
  if (files.version.empty()) {
    fact.value = state == DriverState::kNotAsked ? "unknown" : "not shown";
    fact.meaning = state == DriverState::kNotAsked
                       ? "The sysroot has no proc/driver/nvidia/version."
                       : "/proc/driver/nvidia/version is not there, as on WSL2 and under gVisor.";
    if (state == DriverState::kFails) {
      fact.status = FactStatus::kWarn;
      fact.value = "not loaded";
      fact.meaning = "/proc/driver/nvidia/version is not there.";
      fact.fix = "install the NVIDIA driver 580 or newer; in a container start it with --gpus all";
    }
  } else if (older && state == DriverState::kWorks) {
    fact.meaning = "It is older than 580, and works with a newer libcuda.so.1, of a cuda-compat package.";
  } else if (older) {
    fact.status = FactStatus::kFail;
    fact.meaning = "It is older than 580, the first with CUDA 13.";
    fact.fix = "install driver 580 or newer, or on a data-centre GPU the package cuda-compat-13-0";
  }
  report->Add(fact);
}

void AddLibraryFact(const DriverLibrary& library, DoctorReport* report) {
  if (library.path.empty()) return;
  Fact fact{"driver", "library", FactStatus::kOk, library.path, DescribeSource(library), "", {}};
  if (!library.version.empty()) fact.value += fmt::format(" ({})", library.version);
  report->Add(fact);
}

void AddCudaFact(const Driver& driver, DoctorReport* report) {
  report->Add({"driver",
               "cuda",
               FactStatus::kOk,
               fmt::format("{}.{}", driver.version / 1000, driver.version % 1000 / 10),
               "The newest CUDA that the driver serves; gpuroom needs 13.0.",
               "",
               {}});
}

void AddCudaFailure(const DriverProblem& problem, DoctorReport* report) {
  report->Add({"driver", "cuda", FactStatus::kFail, "not usable", problem.what + ".", problem.fix, {}});
}

void AddNoGpuFact(DoctorReport* report) {
  report->Add(
      {kGroup,
       "gpus",
       FactStatus::kFail,
       "none",
       "No file of this machine shows an NVIDIA GPU: neither nvidia-smi.txt, nor /proc/driver/nvidia/gpus, "
       "nor the PCI bus in /sys.",
       "save what plain 'nvidia-smi' prints as nvidia-smi.txt in the sysroot, and copy /proc/driver/nvidia "
       "and /sys/bus/pci/devices with it",
       {}});
}

void AddTableFact(const Sysroot& root, DoctorReport* report) {
  const std::optional<std::string> text = root.IsMachine() ? std::nullopt : root.Read("/nvidia-smi.txt");
  if (!text || !ParseNvidiaSmi(*text).empty()) return;
  report->Add(
      {kGroup,
       "nvidia_smi",
       FactStatus::kWarn,
       "not understood",
       "nvidia-smi.txt is not the table that 'nvidia-smi' prints without options, such as -q, so it gives no "
       "GPU.",
       "save the output of plain 'nvidia-smi' as nvidia-smi.txt",
       {}});
}

void AddHintFact(int ordinal, const GpuHint& hint, const Sysroot& root, DoctorReport* report) {
  const std::string name = hint.name.empty() ? "unnamed NVIDIA GPU" : hint.name;
  Fact model{kGroup, Named(ordinal, "model"), FactStatus::kOk, name, "", "", {}};
  model.shared_value = name;
  if (!hint.pci_address.empty()) model.value += ", " + NormalizePciAddress(hint.pci_address);
  model.meaning = "From files: no driver was asked.";
  report->Add(model);
  if (hint.bytes > 0) {
    report->Add(
        {kGroup, Named(ordinal, "memory"), FactStatus::kOk, FormatSize(hint.bytes), "", "", hint.bytes});
  }
  const HostLink link = ReadHostLink(hint, root);
  if (link.kind != HostLinkKind::kUnknown) report->Add(LinkFact(ordinal, link));
}

void AddGpuFacts(const Gpu& gpu, const ProbeResult& probe, bool simulated, DoctorReport* report) {
  const std::string kind = fmt::format("{}, compute {}.{}", gpu.name, gpu.compute_major, gpu.compute_minor);
  report->Add({kGroup,
               Named(gpu.ordinal, "model"),
               FactStatus::kOk,
               fmt::format("{}, {}, {}", kind, gpu.pci_address, gpu.uuid),
               "",
               "",
               {},
               kind});
  report->Add(MemoryFact(gpu, probe.free_bytes));
  if (simulated && gpu.link.kind == HostLinkKind::kUnknown) {
    report->Add({kGroup,
                 Named(gpu.ordinal, "link"),
                 FactStatus::kOk,
                 "none",
                 "A simulated GPU has no link.",
                 "",
                 {}});
  } else {
    report->Add(LinkFact(gpu.ordinal, gpu.link));
  }
  report->Add(HostNodeFact(gpu));
  report->Add(AttributesFact(gpu));
  if (!gpu.peers.empty()) report->Add(PeersFact(gpu));
}

void AddSpeedFact(const Gpu& gpu, const LinkSpeeds& estimate, const LinkCache& cache,
                  const std::string& driver, DoctorReport* report) {
  const std::optional<LinkEntry> entry = FindLinks(cache, gpu.uuid, driver);
  Fact fact{kGroup, Named(gpu.ordinal, "speeds"), FactStatus::kOk, "", "", "", {}};
  fact.value = DescribeSpeeds(entry ? entry->speeds : estimate);
  fact.meaning = entry ? fmt::format("Measured {}; plans weigh the tiers by them.", entry->measured)
                       : "Estimated; run 'gpuroom bench tiers' to measure what plans weigh the tiers by.";
  if (!cache.warning.empty()) {
    fact.status = FactStatus::kWarn;
    fact.fix = cache.warning;
  }
  report->Add(fact);
}

void AddFeatureFacts(const Gpu& gpu, const ProbeResult& probe, DoctorReport* report) {
  for (const Trial& trial : probe.trials) {
    Fact fact{"features", Named(gpu.ordinal, trial.name.c_str()), FactStatus::kOk, "works", trial.purpose, "",
              {}};
    if (!trial.worked) {
      fact.status = trial.required ? FactStatus::kFail : FactStatus::kWarn;
      fact.value = "does not work (" + trial.detail + ")";
      fact.fix = !trial.fix.empty() ? trial.fix
                 : trial.required   ? "update the driver, and check that other programs leave memory free"
                                    : "only what needs it is affected; update the driver";
    }
    report->Add(fact);
  }
}

}  // namespace gpuroom
