// Doctor's facts about the container that it runs in: what the engine keeps from programs that gpuroom needs.
// Pure functions of what was read. Nothing where there is no container; the control group's limit is among
// the host's facts.
#pragma once

#include <optional>
#include <string>

#include "cli/doctor_report.h"
#include "topology/container.h"

namespace gpuroom {

struct ContainerView {
  Container container;
  bool host_works = false;            // host memory on a NUMA node was created for a real GPU
  std::string ledger;                 // the file in which host memory is counted
  std::optional<Mount> ledger_mount;  // that it lies in
};

void AddContainerFacts(const ContainerView& view, DoctorReport* report);

}  // namespace gpuroom
