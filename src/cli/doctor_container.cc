#include "cli/doctor_container.h"

#include <fmt/format.h>

#include "base/size.h"

namespace gpuroom {
namespace {

constexpr char kContainerGroup[] = "container";
constexpr uint64_t kUsualShm = 64 * kMiB;  // of an engine that was not told otherwise

// How each engine is told, in the words of its own options.
const char* PlaceFix(const Container& container) {
  return container.engine == "Kubernetes" ? "add SYS_NICE to the container's securityContext.capabilities, "
                                            "or give it a seccompProfile that allows mbind and "
                                            "set_mempolicy"
                                          : "start the container with --cap-add SYS_NICE, or with a seccomp "
                                            "profile that allows mbind and set_mempolicy";
}

Fact PlaceFact(const ContainerView& view) {
  Fact fact{kContainerGroup, "numa_calls", FactStatus::kOk, "allowed", "", "", {}};
  if (view.host_works) fact.meaning = "Host memory on a NUMA node was created for the GPU.";
  if (view.host_works || !view.container.filtered || view.container.may_place) return fact;
  fact.status = FactStatus::kWarn;
  fact.value = "probably refused (seccomp, no SYS_NICE)";
  fact.meaning =
      "The usual seccomp profiles refuse calls that place memory on a NUMA node without the capability "
      "SYS_NICE: the driver "
      "then creates no host memory for the GPU, and nothing can be spilled.";
  fact.fix = PlaceFix(view.container);
  return fact;
}

Fact ShmFact(const Container& container) {
  Fact fact{kContainerGroup, "shm", FactStatus::kOk, "the root's", "", "", {}};
  if (!container.shm) {
    fact.status = FactStatus::kWarn;
    fact.meaning =
        "/dev/shm is no mount of its own, so that what programs share there lies on the container's disk.";
    fact.fix = "mount a tmpfs at /dev/shm";
    return fact;
  }
  const uint64_t size = container.shm->size_bytes;
  fact.value = size == 0 ? "no size of its own" : FormatSize(size);
  if (size != 0) fact.bytes = size;
  if (size == 0 || size > kUsualShm) return fact;
  fact.status = FactStatus::kWarn;
  fact.meaning =
      "NCCL, PyTorch's data loaders and vLLM's workers share memory in /dev/shm and fail, or are killed by "
      "SIGBUS, when it is full.";
  fact.fix = container.engine == "Kubernetes"
                 ? "mount an emptyDir with medium: Memory and a sizeLimit at /dev/shm"
                 : "start the container with --shm-size 8g, or with --ipc host";
  return fact;
}

// What an engine makes for one container, or one pod: its tmpfs at /dev/shm, and the container's own disk.
bool IsPrivate(const std::optional<Mount>& mount) {
  if (!mount) return true;
  if (mount->type.find("overlay") != std::string::npos) return true;
  if (mount->point == "/dev") return true;
  return mount->point == "/dev/shm" && (mount->source == "shm" || mount->size_bytes != 0);
}

Fact LedgerFact(const ContainerView& view) {
  Fact fact{kContainerGroup, "ledger", FactStatus::kOk, view.ledger, "", "", {}};
  if (!IsPrivate(view.ledger_mount)) {
    fact.meaning = fmt::format("It lies in the mount {}, which other containers of this node can share.",
                               view.ledger_mount->point);
    return fact;
  }
  fact.status = FactStatus::kWarn;
  fact.meaning =
      "Other containers of this node do not see this file: each may take the whole host limit, and together "
      "they take more than "
      "the node has.";
  fact.fix = fmt::format(
      "mount a folder of the node into all of them and set GPUROOM_LEDGER to a file in it{}, or divide "
      "--host-limit by hand",
      view.container.engine == "Kubernetes" ? " (a hostPath volume)" : " (--volume), or use --ipc host");
  return fact;
}

}  // namespace

void AddContainerFacts(const ContainerView& view, DoctorReport* report) {
  if (!view.container.present) return;
  const std::string engine = view.container.engine.empty() ? "yes" : view.container.engine;
  report->Add(
      {kContainerGroup, "container", FactStatus::kOk, engine, "This is the inside of a container.", "", {}});
  report->Add(PlaceFact(view));
  report->Add(ShmFact(view.container));
  report->Add(LedgerFact(view));
}

}  // namespace gpuroom
