#include "cli/plot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "cli/installation.h"

namespace gpuroom {
namespace {

// Runs `words`, the first looked up in PATH. `input` is the descriptor of its
// standard input; with `quiet` its output goes nowhere. -1: it could not be started.
int Run(std::vector<std::string> words, int input, bool quiet) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  for (const int output : {STDOUT_FILENO, STDERR_FILENO}) {
    if (quiet) posix_spawn_file_actions_addopen(&actions, output, "/dev/null", O_WRONLY, 0);
  }
  pid_t child = 0;
  const int error = posix_spawnp(&child, words[0].c_str(), &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return -1;
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// The first Python that has matplotlib: the one early in PATH may not be the
// distribution's. "" where none has.
std::string FindPython() {
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  std::string found;
  for (const char* python : {"python3", "/usr/bin/python3"}) {
    if (found.empty() && Run({python, "-c", "import matplotlib"}, nothing, true) == 0) found = python;
  }
  if (nothing >= 0) close(nothing);
  return found;
}

std::string ScriptPath(const std::string& script) {
  return (std::filesystem::path(FindInstallation().prefix) / "share" / "gpuroom" / script).string();
}

// A file of that text without a name, to be read from its start; -1 and errno.
int Unnamed(const std::string& text) {
  FILE* file = std::tmpfile();
  if (file == nullptr) return -1;
  const bool written =
      std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fflush(file) == 0;
  const int copy = written ? fcntl(fileno(file), F_DUPFD_CLOEXEC, 3) : -1;
  std::fclose(file);
  if (copy >= 0) lseek(copy, 0, SEEK_SET);
  return copy;
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
  if (FindPython().empty()) {
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
  const int input = Unnamed(json);
  if (input < 0) {
    return {kExitFailed, fmt::format("no temporary file can be made: {}; set TMPDIR, or free some space",
                                     std::strerror(errno))};
  }
  const int status = Run({FindPython(), script, "-", path}, input, false);
  close(input);
  if (status == 0) return {};
  return {kExitFailed, fmt::format("'{}' could not draw '{}'; its own message says why", script, path)};
}

}  // namespace gpuroom
