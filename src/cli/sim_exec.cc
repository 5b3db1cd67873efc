#include "cli/sim_exec.h"

#include <dlfcn.h>

#include <cerrno>
#include <cstdlib>

#include "base/env.h"
#include "cli/environment.h"
#include "cli/installation.h"

namespace gpuroom {
namespace {

constexpr char kLibraryPath[] = "LD_LIBRARY_PATH";

// Loads `directory`/`name` under its soname `name`.
Status LoadAs(const std::string& directory, const char* name) {
  void* earlier = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
  void* library = dlopen((directory + "/" + name).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return Status(Code::kNotFound,
                  "the simulated driver was not found in lib/gpuroom/sim; reinstall gpuroom");
  }
  if (earlier != nullptr && earlier != library) {
    return Status(Code::kBusy,
                  "another libcuda.so.1 is already loaded; take it out of LD_PRELOAD to use --sim");
  }
  if (dlopen(name, RTLD_NOW | RTLD_NOLOAD) != library) {
    return Status(Code::kSystem, "the simulated driver has another soname than libcuda.so.1");
  }
  return Status();
}

}  // namespace

Status EnterSim(const std::string& profile) {
  const Installation installation = FindInstallation();
  const std::string& directory = installation.sim_dir;
  const std::string search = SimLibraryPath(installation);
  if (setenv(kLibraryPath, search.c_str(), 1) != 0 || setenv(env::kSim, profile.c_str(), 1) != 0) {
    return Status(Code::kSystem, "the environment cannot be changed", errno);
  }
  const Status status = LoadAs(directory, "libcuda.so.1");
  // NVML is asked by some programs only; the driver does without it.
  if (status.ok()) (void)LoadAs(directory, "libnvidia-ml.so.1").ok();
  return status;
}

}  // namespace gpuroom
