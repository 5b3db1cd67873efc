#include "cli/plot.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "cli/child_program.h"
#include "cli/installation.h"
#include "cli/python_program.h"

namespace gpuroom {
namespace {

std::string ScriptPath(const std::string& script) {
  return (std::filesystem::path(FindInstallation().prefix) / "share" / "gpuroom" / script).string();
}

}  // namespace

Failure CheckPlot(const std::string& path, const std::string& name) {
  const std::string suffix = std::filesystem::path(path).extension().string();
  if (suffix != ".svg" && suffix != ".png" && suffix != ".pdf") {
    return {kExitUsage, fmt::format("--plot '{}' is no figure; end its name in .svg, .png or .pdf", path)};
  }
  const std::string script = ScriptPath(name);
  if (access(script.c_str(), R_OK) != 0) {
    return {kExitFailed, fmt::format("'{}' is missing; install gpuroom again, or build it", script)};
  }
  if (FindPythonWith("matplotlib").empty()) {
    return {kExitFailed,
            "--plot needs python3 with matplotlib; install the package python3-matplotlib, or keep --json's "
            "output "
            "and draw it elsewhere"};
  }
  // The file if it is there, else its folder; nothing is made before there is something to draw.
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  const std::string target = access(path.c_str(), F_OK) == 0 ? path : folder.empty() ? "." : folder.string();
  if (access(target.c_str(), W_OK) != 0) {
    return {kExitUsage,
            fmt::format("--plot '{}' cannot be written: {}; name another file", path, std::strerror(errno))};
  }
  return {};
}

Failure Plot(const std::string& json, const std::string& name, const std::string& path) {
  const std::string script = ScriptPath(name);
  const int input = UnnamedFile(json);
  if (input < 0) {
    return {kExitFailed, fmt::format("no temporary file can be made: {}; set TMPDIR, or free some space",
                                     std::strerror(errno))};
  }
  const int status = RunChild({FindPythonWith("matplotlib"), script, "-", path}, {.input = input});
  close(input);
  if (status == 0) return {};
  return {kExitFailed, fmt::format("'{}' could not draw '{}'; its own message says why", script, path)};
}

}  // namespace gpuroom
