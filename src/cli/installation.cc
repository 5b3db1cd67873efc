#include "cli/installation.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

namespace gpuroom {

Installation FindInstallation() {
  std::error_code error;
  Installation found;
  found.exe = std::filesystem::read_symlink("/proc/self/exe", error).string();
  const std::filesystem::path prefix = std::filesystem::path(found.exe).parent_path().parent_path();
  const std::filesystem::path libraries = prefix / "lib" / "gpuroom";
  found.shim = (libraries / kShimName).string();
  found.sim_dir = (libraries / "sim").string();
  found.plugins = (libraries / "plugins").string();
  found.demo = (libraries / "gpuroom-demo").string();
  return found;
}

bool HasMuslLoader() {
#if defined(__x86_64__)
  return access("/lib/ld-musl-x86_64.so.1", X_OK) == 0;
#else
  return access("/lib/ld-musl-aarch64.so.1", X_OK) == 0;
#endif
}

Failure CheckInstallation(const Installation& installation, bool sim) {
  if (access(installation.shim.c_str(), R_OK) != 0) {
    return {kExitCannotRun, fmt::format("'{}' is missing or unreadable; install gpuroom again, or build it",
                                        installation.shim)};
  }
  // The loader splits its variables at these and expands $, with no way to quote.
  if (installation.shim.find_first_of(" :;$") != std::string::npos) {
    return {kExitCannotRun,
            fmt::format("'{}' has a space, ':', ';' or '$' in its path, which the loader cannot be told; "
                        "install gpuroom elsewhere",
                        installation.shim)};
  }
  const std::string driver = installation.sim_dir + "/libcuda.so.1";
  if (sim && access(driver.c_str(), R_OK) != 0) {
    return {kExitNoDriver,
            fmt::format("the simulated driver '{}' is missing; install gpuroom again, or build it", driver)};
  }
  return {};
}

}  // namespace gpuroom
