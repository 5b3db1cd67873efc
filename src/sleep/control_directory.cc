#include "sleep/control_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/env.h"
#include "base/private_folder.h"
#include "sleep/control_line.h"

namespace gpuroom {
namespace {

constexpr char kSuffix[] = ".sock";

std::string Variable(const char* name) {
  const char* value = env::Find(name);
  return value != nullptr ? value : "";
}

bool IsOwnFolder(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == geteuid();
}

std::string Temporary() { return "/tmp/gpuroom-" + std::to_string(geteuid()); }

}  // namespace

std::string ControlDirectory() {
  const std::string chosen = Variable(env::kControlDir);
  if (!chosen.empty()) return chosen;
  // It may be left from another user: sudo and su keep it.
  const std::string runtime = Variable("XDG_RUNTIME_DIR");
  return !runtime.empty() && IsOwnFolder(runtime) ? runtime + "/gpuroom" : Temporary();
}

std::vector<std::string> ControlDirectories() {
  std::vector<std::string> all = {ControlDirectory()};
  if (!Variable(env::kControlDir).empty()) return all;
  const std::string by_login = "/run/user/" + std::to_string(geteuid()) + "/gpuroom";
  for (const std::string& other : {by_login, Temporary()}) {
    if (other != all.front()) all.push_back(other);
  }
  return all;
}

Status MakeControlDirectory(const std::string& path) {
  switch (MakePrivateFolder(path.c_str())) {
    case FolderState::kMissing:
      return Status(Code::kSystem, "it cannot be made; set GPUROOM_CONTROL_DIR to a folder of your own",
                    errno);
    case FolderState::kNotAFolder:
      return Status(Code::kInvalidArgument,
                    "it is a link, a file or not readable; remove it, or set GPUROOM_CONTROL_DIR", errno);
    case FolderState::kForeign:
      return Status(Code::kInvalidArgument,
                    "it is another user's; set GPUROOM_CONTROL_DIR to a folder of your own");
    case FolderState::kOpenToOthers:
      return Status(Code::kInvalidArgument, "it is open to other users; make it private with chmod 700");
    case FolderState::kPrivate: break;
  }
  return Status();
}

std::string ControlSocketPath(const std::string& directory, pid_t pid) {
  return directory + "/" + std::to_string(pid) + kSuffix;
}

pid_t PidOfSocket(const std::string& name) {
  const size_t length = sizeof kSuffix - 1;
  if (name.size() <= length || name.compare(name.size() - length, length, kSuffix) != 0) return 0;
  const Result<uint64_t> pid = ParsePlainDecimal(std::string_view(name).substr(0, name.size() - length));
  return pid.ok() && *pid <= INT32_MAX ? static_cast<pid_t>(*pid) : 0;
}

}  // namespace gpuroom
