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
#include <optional>
#include <string_view>
#include <system_error>

#include "base/temporary.h"
#include "cli/descriptor.h"
#include "cli/elf_file.h"
#include "cli/launcher.h"
#include "cli/small_file.h"

namespace gpuroom {
namespace {

constexpr int kMaxDepth = 5;         // as deep as the kernel follows `#!`
constexpr size_t kMaxShebang = 255;  // as much of a `#!` line as it reads
constexpr std::string_view kLibc = "libc.so.6";

// As Debian and its kin name folders.
#if defined(__x86_64__)
constexpr std::string_view kTriplet = "x86_64-linux-gnu";
#else
constexpr std::string_view kTriplet = "aarch64-linux-gnu";
#endif

Failure CannotRun(std::string text) { return {kExitCannotRun, std::move(text)}; }

std::string_view BaseName(TemporaryString auto&& path) = delete;
std::string_view BaseName(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
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

// musl's loader, whatever a bundle calls it: its help text names it.
bool IsMuslLoader(const std::string& loader) {
  if (IsLoader(loader)) return false;
  if (BaseName(loader).starts_with("ld-musl")) return true;
  std::string text;
  return ReadSmallFile(loader, &text).ok() && text.find("musl libc (") != std::string::npos;
}

// What of a dynamic program decides about preloading: its loader and its libraries.
Failure CheckDynamic(const std::string& path, int fd, uint64_t size, const std::string& loader,
                     ProgramCheck* check) {
  if (access(loader.c_str(), X_OK) != 0) {
    return CannotRun(
        fmt::format("'{}' needs the loader '{}', which is not here; install it, or use a build for this "
                    "system",
                    path, loader));
  }
  if (IsMuslLoader(loader)) {
    return CannotRun(
        fmt::format("'{}' is built for musl and gpuroom's library needs glibc; use a glibc build", path));
  }
  check->program = path;
  check->loader = loader;
  check->libraries = ReadElfLinks(fd, size).libraries;
  return {};
}

Failure CheckElf(const std::string& path, int fd, uint64_t size, ProgramCheck* check) {
  const ElfFile file = InspectElf(fd, size);
  switch (file.verdict) {
    case ElfVerdict::kDynamic: return CheckDynamic(path, fd, size, file.interpreter, check);
    case ElfVerdict::kStatic:
      if (IsLoader(path)) return {};
      check->warnings.push_back(fmt::format(
          "'{}' is statically linked, so it runs without gpuroom itself; what it starts runs with "
          "gpuroom where that is dynamically linked",
          path));
      return {};
    case ElfVerdict::kWrongClass:
      return CannotRun(
          fmt::format("'{}' is a 32-bit program and gpuroom is 64-bit; use a 64-bit build", path));
    case ElfVerdict::kWrongMachine:
      return CannotRun(fmt::format("'{}' is built for {}, not for this machine; use a build for this machine",
                                   path, MachineName(file.machine)));
    case ElfVerdict::kNotProgram:
      return CannotRun(fmt::format("'{}' is an object or core file; link it into a program first", path));
    case ElfVerdict::kBroken: break;
  }
  return CannotRun(fmt::format("'{}' is a damaged or truncated ELF file; build or copy it again", path));
}

// `depth` counts the files between CMD, which has 0, and `path`.
Failure CheckPath(const std::string& path, int depth, ProgramCheck* check);

// Follows `path`, which was found to be a program and is given `arguments`, to what it starts.
Failure CheckLaunch(const std::string& path, const std::vector<std::string>& arguments, int depth,
                    ProgramCheck* check) {
  const std::optional<Launch> launch = ReadLaunch(BaseName(path), arguments);
  if (!launch) return {};
  if (!launch->drops.empty()) {
    check->warnings.push_back(
        fmt::format("'{0}' does not pass gpuroom's library on, so what it starts runs without gpuroom; write "
                    "'{0} ... gpuroom run [options] -- CMD'",
                    launch->drops));
    return {};
  }
  if (launch->command.empty() || depth >= kMaxDepth) return {};
  const std::string& name = launch->command[0];
  const std::string target = FindProgram(name);
  if (target.empty()) {
    return {kExitNotFound,
            fmt::format("'{}' wants '{}' from PATH, which has none; install it or set PATH", path, name)};
  }
  const Failure failure = CheckPath(target, depth + 1, check);
  if (failure.failed()) return failure;
  return CheckLaunch(target, {launch->command.begin() + 1, launch->command.end()}, depth + 1, check);
}

Failure CheckScript(const std::string& path, std::string_view line, int depth, ProgramCheck* check) {
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
  const Failure failure = CheckPath(words[0], depth + 1, check);
  if (failure.failed()) return failure;
  // The kernel gives the interpreter the rest of the line as one argument, which `env -S` takes apart.
  const std::string_view rest = line.substr(line.find(words[0]) + words[0].size());
  const size_t begin = rest.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  const size_t end = rest.find_last_not_of(" \t");
  return CheckLaunch(words[0], {std::string(rest.substr(begin, end - begin + 1)), path}, depth, check);
}

Failure CheckPath(const std::string& path, int depth, ProgramCheck* check) {
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
    return failure.failed() ? failure : CheckElf(path, file.fd, static_cast<uint64_t>(info.st_size), check);
  }
  const std::string_view line = text.substr(0, text.find('\n'));
  if (line.find('\0') != std::string_view::npos) {
    return CannotRun(fmt::format("'{}' is neither an ELF program nor a script; name a program", path));
  }
  if (line.substr(0, 2) == "#!") return CheckScript(path, line.substr(2), depth, check);
  if (depth == 0) check->through_shell = true;
  return {};
}

// libc.so.6 of the same system as `loader`: beside it, or in another folder of the same root. "": none.
std::string FindLibc(const std::string& loader) {
  if (loader.empty()) return "";
  std::error_code ignored;
  const std::string real = std::filesystem::canonical(loader, ignored).parent_path().string();
  const std::string root = loader.substr(0, loader.rfind("/lib"));
  for (const std::string& folder :
       {real, root + "/lib64", fmt::format("{}/lib/{}", root, kTriplet), root + "/usr/lib64",
        fmt::format("{}/usr/lib/{}", root, kTriplet), root + "/lib", root + "/usr/lib"}) {
    const std::string path = fmt::format("{}/{}", folder, kLibc);
    if (std::filesystem::is_regular_file(path, ignored)) return path;
  }
  return "";
}

ElfLinks ReadLinksOf(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info = {};
  if (file.fd < 0 || fstat(file.fd, &info) != 0 || !S_ISREG(info.st_mode)) return {};
  return ReadElfLinks(file.fd, static_cast<uint64_t>(info.st_size));
}

// The newest version of the C library that `library` needs and `libc` lacks; "": it has all.
std::string MissingVersion(const ElfLinks& library, const ElfLinks& libc) {
  std::string newest;
  for (const ElfLinks::Version& each : library.needs) {
    const bool there = std::find(libc.offers.begin(), libc.offers.end(), each.name) != libc.offers.end();
    if (each.file != kLibc || there) continue;
    if (strverscmp(each.name.c_str(), newest.c_str()) > 0) newest = each.name;
  }
  return newest;
}

}  // namespace

Failure CheckLibc(const ProgramCheck& check, const std::string& library) {
  const std::string libc = FindLibc(check.loader);
  const ElfLinks links = ReadLinksOf(libc);
  if (links.offers.empty()) return {};
  const std::string missing = MissingVersion(ReadLinksOf(library), links);
  if (missing.empty()) return {};
  return CannotRun(fmt::format(
      "'{}' runs with the C library '{}', which is too old for gpuroom's library: it has no {}; use "
      "a newer system, or a gpuroom that was built for this one",
      check.program, libc, missing));
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
  check.failure = CheckPath(check.path, 0, &check);
  if (check.failure.failed()) return check;
  check.failure = CheckLaunch(check.path, {command.begin() + 1, command.end()}, 0, &check);
  return check;
}

}  // namespace gpuroom
