#include "cli/program_check.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/temporary.h"
#include "cli/descriptor.h"
#include "cli/elf_file.h"

namespace gpuroom {
namespace {

constexpr int kMaxDepth = 5;         // as deep as the kernel follows `#!`
constexpr size_t kMaxShebang = 255;  // as much of a `#!` line as it reads

Failure CannotRun(std::string text) { return {kExitCannotRun, std::move(text)}; }

std::string_view BaseName(TemporaryString auto&& path) = delete;
std::string_view BaseName(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::vector<std::string> SplitWords(std::string_view text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = text.find_first_not_of(" \t", at);
    if (begin == std::string_view::npos) break;
    const size_t end = std::min(text.find_first_of(" \t", begin), text.size());
    words.emplace_back(text.substr(begin, end - begin));
    at = end;
  }
  return words;
}

bool IsExecutableFile(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && access(path.c_str(), X_OK) == 0;
}

// As execvp searches: a name with a slash is a path; an empty element of PATH
// is the current directory. Falls back to a file that is there and cannot be run.
std::string FindProgram(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* variable = std::getenv("PATH");
  const std::string_view search = variable != nullptr ? variable : "/bin:/usr/bin";
  std::string present;
  for (size_t at = 0; at <= search.size();) {
    const size_t end = std::min(search.find(':', at), search.size());
    const std::string_view folder = search.substr(at, end - at);
    const std::string path = folder.empty() ? "./" + name : fmt::format("{}/{}", folder, name);
    if (IsExecutableFile(path)) return path;
    struct stat info = {};
    if (present.empty() && stat(path.c_str(), &info) == 0 && !S_ISDIR(info.st_mode)) present = path;
    at = end + 1;
  }
  return present;
}

// True where exec gives the program other rights than ours, so that the loader
// ignores LD_PRELOAD (AT_SECURE): see cap_bprm_creds_from_file in the kernel.
bool LoaderWouldIgnorePreload(const std::string& path, const struct stat& info) {
  struct statvfs mount = {};
  if (statvfs(path.c_str(), &mount) == 0 && (mount.f_flag & ST_NOSUID) != 0) return false;
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) return false;
  if ((info.st_mode & S_ISUID) != 0 && info.st_uid != getuid()) return true;
  constexpr mode_t kSetGroup = S_ISGID | S_IXGRP;
  if ((info.st_mode & kSetGroup) == kSetGroup && info.st_gid != getgid()) return true;
  return getuid() != 0 && getxattr(path.c_str(), "security.capability", nullptr, 0) > 0;
}

Failure CheckFile(const std::string& path, struct stat* info) {
  if (stat(path.c_str(), info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) {
      return {kExitNotFound, fmt::format("'{}' was not found; check the path", path)};
    }
    return CannotRun(fmt::format("'{}' cannot be reached: {}; check the path and its permissions", path,
                                 std::strerror(errno)));
  }
  if (S_ISDIR(info->st_mode))
    return CannotRun(fmt::format("'{}' is a directory; name a program in it", path));
  if (!S_ISREG(info->st_mode))
    return CannotRun(fmt::format("'{}' is not a regular file; name a program", path));
  if (access(path.c_str(), X_OK) != 0) {
    return CannotRun(
        fmt::format("'{0}' is not executable; run 'chmod +x {0}', or name its interpreter first", path));
  }
  return {};
}

// Of a program, not of a script: there the kernel goes by the interpreter's rights.
Failure CheckRights(const std::string& path, const struct stat& info) {
  if (!LoaderWouldIgnorePreload(path, info)) return {};
  return CannotRun(
      fmt::format("'{}' runs with rights other than yours (set-uid, set-gid or file capabilities), so the "
                  "loader would ignore gpuroom; run a copy without them",
                  path));
}

// The loader itself has no loader, and honours LD_PRELOAD. /usr/bin/ld.so is a link to it.
bool IsLoader(const std::string& path) {
  std::error_code ignored;
  const std::string real = std::filesystem::canonical(path, ignored).string();
  return BaseName(path).starts_with("ld-linux") || BaseName(real).starts_with("ld-linux");
}

Failure CheckElf(const std::string& path, int fd, uint64_t size) {
  const ElfFile file = InspectElf(fd, size);
  switch (file.verdict) {
    case ElfVerdict::kDynamic: break;
    case ElfVerdict::kStatic:
      if (IsLoader(path)) return {};
      return CannotRun(fmt::format(
          "'{}' is statically linked, so nothing can be preloaded into it; use a dynamically linked build",
          path));
    case ElfVerdict::kWrongClass:
      return CannotRun(
          fmt::format("'{}' is a 32-bit program and gpuroom is 64-bit; use a 64-bit build", path));
    case ElfVerdict::kWrongMachine:
      return CannotRun(fmt::format("'{}' is built for {}, not for this machine; use a build for this machine",
                                   path, MachineName(file.machine)));
    case ElfVerdict::kNotProgram:
      return CannotRun(fmt::format("'{}' is an object or core file; link it into a program first", path));
    case ElfVerdict::kBroken:
      return CannotRun(fmt::format("'{}' is a damaged or truncated ELF file; build or copy it again", path));
  }
  if (access(file.interpreter.c_str(), X_OK) != 0) {
    return CannotRun(
        fmt::format("'{}' needs the loader '{}', which is not here; install it, or use a build for this "
                    "system",
                    path, file.interpreter));
  }
  if (BaseName(file.interpreter).substr(0, 7) == "ld-musl") {
    return CannotRun(
        fmt::format("'{}' is built for musl and gpuroom's library needs glibc; use a glibc build", path));
  }
  return {};
}

// `through_shell`: set where the file is text without an interpreter.
Failure CheckPath(const std::string& path, int depth, bool* through_shell = nullptr);

Failure CheckEnvTarget(const std::string& from, const std::vector<std::string>& arguments, int depth) {
  const int target = FindEnvTarget(arguments);
  if (target < 0) return {};
  const std::string& name = arguments[static_cast<size_t>(target)];
  const std::string path = FindProgram(name);
  if (path.empty()) {
    return {kExitNotFound,
            fmt::format("'{}' wants '{}' from PATH, which has none; install it or set PATH", from, name)};
  }
  return CheckPath(path, depth + 1);
}

Failure CheckScript(const std::string& path, std::string_view line, int depth) {
  if (depth >= kMaxDepth) {
    return CannotRun(
        fmt::format("'{}' is the last of too many scripts that run each other; name the program", path));
  }
  const std::vector<std::string> words = SplitWords(line);
  if (words.empty()) {
    return CannotRun(fmt::format("'{}' names no interpreter after '#!'; write one, such as #!/bin/sh", path));
  }
  struct stat info = {};
  if (stat(words[0].c_str(), &info) != 0) {
    return CannotRun(
        fmt::format("'{}' needs the interpreter '{}', which is not here; install it or correct the first "
                    "line",
                    path, words[0]));
  }
  const Failure failure = CheckPath(words[0], depth + 1);
  if (failure.failed() || BaseName(words[0]) != "env") return failure;
  // Without -S, env gets the rest of the line as one argument.
  std::vector<std::string> arguments(words.begin() + 1, words.end());
  const bool split =
      !arguments.empty() && (arguments[0].rfind("-S", 0) == 0 || arguments[0].rfind("--split", 0) == 0);
  if (!split && arguments.size() > 1) return {};
  return CheckEnvTarget(path, arguments, depth);
}

Failure CheckPath(const std::string& path, int depth, bool* through_shell) {
  struct stat info = {};
  Failure failure = CheckFile(path, &info);
  if (failure.failed()) return failure;
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd < 0) return CheckRights(path, info);  // executable and unreadable: exec will tell the rest
  char head[kMaxShebang + 1];
  const ssize_t count = pread(file.fd, head, sizeof head, 0);
  if (count < 0) return {};
  const std::string_view text(head, static_cast<size_t>(count));
  if (text.substr(0, kElfMagic.size()) == kElfMagic) {
    failure = CheckRights(path, info);
    return failure.failed() ? failure : CheckElf(path, file.fd, static_cast<uint64_t>(info.st_size));
  }
  const std::string_view line = text.substr(0, text.find('\n'));
  if (line.find('\0') != std::string_view::npos) {
    return CannotRun(fmt::format("'{}' is neither an ELF program nor a script; name a program", path));
  }
  if (line.substr(0, 2) == "#!") return CheckScript(path, line.substr(2), depth);
  if (through_shell != nullptr) *through_shell = true;
  return {};
}

}  // namespace

int FindEnvTarget(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "-S" || word == "-v" || word == "--") continue;
    if (!word.empty() && word[0] == '-') return -1;   // an option that may take the next word
    if (word.compare(0, 5, "PATH=") == 0) return -1;  // searched along another path than ours
    if (word.find('=') == std::string::npos) return static_cast<int>(i);
  }
  return -1;
}

ProgramCheck CheckProgram(const std::vector<std::string>& command) {
  ProgramCheck check;
  check.path = FindProgram(command[0]);
  if (check.path.empty()) {
    const std::string_view hint = command[0].empty() ? "the command is empty; write one after --" : "";
    check.failure = {
        kExitNotFound,
        !hint.empty() ? std::string(hint)
                      : fmt::format("'{}' was not found in PATH; install it, or write its path", command[0])};
    return check;
  }
  check.failure = CheckPath(check.path, 0, &check.through_shell);
  if (check.failure.failed() || BaseName(check.path) != "env") return check;
  check.failure = CheckEnvTarget(check.path, {command.begin() + 1, command.end()}, 0);
  return check;
}

}  // namespace gpuroom
