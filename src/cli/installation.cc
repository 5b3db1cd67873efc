#include "cli/installation.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

namespace gpuroom {
namespace {

namespace fs = std::filesystem;

constexpr char kLibraryFolder[] = "lib/gpuroom";

bool HoldsLibrary(const fs::path& prefix) {
  std::error_code error;
  return fs::exists(prefix / kLibraryFolder / kShimName, error);
}

// Folders of Python packages to which pip gives commands in <environment>/bin, in the order of their names.
std::vector<fs::path> PackageFolders(const fs::path& environment) {
  std::vector<fs::path> folders = {environment};  // pip install --target
  std::vector<fs::path> pythons;
  for (const char* library : {"lib", "lib64"}) {
    std::error_code error;
    for (fs::directory_iterator it(environment / library, error), end; !error && it != end;
         it.increment(error)) {
      if (it->path().filename().string().rfind("python3", 0) == 0) pythons.push_back(it->path());
    }
  }
  std::sort(pythons.begin(), pythons.end());
  for (const fs::path& python : pythons) {
    folders.push_back(python / "site-packages");
    folders.push_back(python / "dist-packages");  // Debian's own Python
  }
  return folders;
}

}  // namespace

std::string FindPrefix(const std::string& exe, std::string_view version) {
  const fs::path beside = fs::path(exe).parent_path().parent_path();
  if (HoldsLibrary(beside)) return beside.string();
  const std::string metadata = std::string("gpuroom-").append(version).append(".dist-info");
  std::string other_version;
  for (const fs::path& folder : PackageFolders(beside)) {
    const fs::path package = folder / "gpuroom" / "_native";
    if (!HoldsLibrary(package)) continue;
    std::error_code error;
    if (fs::exists(folder / metadata, error)) return package.string();
    if (other_version.empty()) other_version = package.string();
  }
  return other_version.empty() ? beside.string() : other_version;
}

Installation FindInstallation() {
  std::error_code error;
  Installation found;
  found.exe = fs::read_symlink("/proc/self/exe", error).string();
  found.prefix = FindPrefix(found.exe, GPUROOM_VERSION);
  const fs::path libraries = fs::path(found.prefix) / kLibraryFolder;
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
