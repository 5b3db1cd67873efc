// Doctor's facts about driver, GPUs, links, peers and the features that were
// tried. Pure functions of what was read.
#pragma once

#include <string>
#include <vector>

#include "cli/doctor_probe.h"
#include "cli/doctor_report.h"
#include "cli/link_cache.h"
#include "topology/gpu.h"

namespace gpuroom {

void AddSimFact(const std::string& profile, DoctorReport* report);
// What the kernel driver's files say; `files_only`: they may well be left out.
void AddKernelDriverFact(const NvidiaFiles& files, bool files_only, DoctorReport* report);
void AddCudaFact(const Driver& driver, DoctorReport* report);
// A GPU of which only files tell (a sysroot without a driver).
void AddHintFact(int ordinal, const GpuHint& hint, const Sysroot& root, DoctorReport* report);
void AddGpuFacts(const Gpu& gpu, const ProbeResult& probe, bool simulated, DoctorReport* report);
// How fast each kind of memory is read: as measured, else `estimate`.
void AddSpeedFact(const Gpu& gpu, const LinkSpeeds& estimate, const LinkCache& cache,
                  const std::string& driver, DoctorReport* report);
void AddFeatureFacts(const Gpu& gpu, const ProbeResult& probe, DoctorReport* report);

}  // namespace gpuroom
