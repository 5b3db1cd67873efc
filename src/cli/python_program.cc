#include "cli/python_program.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "cli/child_program.h"
#include "cli/installation.h"

namespace gpuroom {

std::string FindPythonWith(const std::string& module) {
  const std::filesystem::path beside =
      std::filesystem::path(FindInstallation().exe).parent_path() / "python3";
  const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  std::string found;
  for (const std::string& python :
       {beside.string(), std::string("python3"), std::string("/usr/bin/python3")}) {
    // A file of that name in this folder is not meant.
    const std::string test = "import sys; sys.path = [p for p in sys.path if p]; import " + module;
    if (found.empty() &&
        RunChild({python, "-c", test}, {.input = nothing, .output = nothing, .errors = nothing}) == 0)
      found = python;
  }
  if (nothing >= 0) close(nothing);
  return found;
}

}  // namespace gpuroom
