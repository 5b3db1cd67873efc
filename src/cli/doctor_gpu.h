// Doctor's facts about driver, GPUs, links, peers and the features that were
// tried. Pure functions of what was read.
#pragma once

#include <string>
#include <vector>

#include "cli/doctor_probe.h"
#include "cli/doctor_report.h"
#include "cli/driver_advice.h"
#include "cli/link_cache.h"
#include "topology/gpu.h"

namespace gpuroom {

void AddSimFact(const std::string& profile, DoctorReport* report);
// How the CUDA driver fared: not asked, since there are files of another machine alone; it works; it does
// not.
enum class DriverState { kNotAsked, kWorks, kFails };

// What the kernel driver's files say.
void AddKernelDriverFact(const NvidiaFiles& files, DriverState state, DoctorReport* report);
// Which libcuda.so.1 the loader took, and what led it there.
void AddLibraryFact(const DriverLibrary& library, DoctorReport* report);
void AddCudaFact(const Driver& driver, DoctorReport* report);
void AddCudaFailure(const DriverProblem& problem, DoctorReport* report);
// A machine of which there are files alone, and these show no GPU.
void AddNoGpuFact(DoctorReport* report);
// That the sysroot's nvidia-smi.txt is something else than doctor reads, where it is; and nothing where it is
// not.
void AddTableFact(const Sysroot& root, DoctorReport* report);
// A GPU of which only files tell (a sysroot without a driver).
void AddHintFact(int ordinal, const GpuHint& hint, const Sysroot& root, DoctorReport* report);
void AddGpuFacts(const Gpu& gpu, const ProbeResult& probe, bool simulated, DoctorReport* report);
// How fast each kind of memory is read: as measured, else `estimate`.
void AddSpeedFact(const Gpu& gpu, const LinkSpeeds& estimate, const LinkCache& cache,
                  const std::string& driver, DoctorReport* report);
void AddFeatureFacts(const Gpu& gpu, const ProbeResult& probe, DoctorReport* report);

}  // namespace gpuroom
