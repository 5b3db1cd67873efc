// Doctor's facts about the host: NUMA nodes, real RAM against HBM onlined as a
// node, EGM, CDMM, cgroup limits, huge pages. Pure functions of what was read.
#pragma once

#include "cli/doctor_report.h"
#include "topology/host_budget.h"
#include "topology/host_model.h"

namespace gpuroom {

void AddHostFacts(const HostModel& model, const HostBudget& budget, DoctorReport* report);

// The pool that `run` would offer: facts and numbers. GPUs whose size is not
// known are left out.
void AddPool(const HostModel& model, const HostBudget& budget, DoctorReport* report);

}  // namespace gpuroom
