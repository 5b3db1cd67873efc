// Where the processes are that control_client.h finds.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>

#include "base/env.h"
#include "cli/control_client.h"
#include "cli/process_info.h"
#include "sleep/control_directory.h"
#include "sleep/control_line.h"

namespace gpuroom {
namespace {

constexpr char kTemporary[] = "/tmp";
constexpr char kTemporaryPrefix[] = "gpuroom-";
constexpr char kLogins[] = "/run/user";
// A name that is not in use yet belongs to a process that is starting, or died starting.
constexpr time_t kStartSeconds = 60;

struct CloseDir {
  void operator()(DIR* folder) const { closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseDir>;

std::vector<std::string> NamesIn(DIR* folder) {
  std::vector<std::string> names;
  while (const dirent* entry = readdir(folder)) names.emplace_back(entry->d_name);
  return names;
}

std::vector<std::string> NamesIn(const std::string& path) {
  const Folder folder(opendir(path.c_str()));
  return folder ? NamesIn(folder.get()) : std::vector<std::string>();
}

// Every user's folders, as root may see them.
std::vector<std::string> EveryonesFolders() {
  std::vector<std::string> folders;
  for (const std::string& name : NamesIn(kLogins)) {
    if (ParseDecimal(name).ok()) folders.push_back(std::string(kLogins) + "/" + name + "/gpuroom");
  }
  const size_t length = sizeof kTemporaryPrefix - 1;
  for (const std::string& name : NamesIn(kTemporary)) {
    if (name.compare(0, length, kTemporaryPrefix) == 0 && ParseDecimal(name.substr(length)).ok())
      folders.push_back(std::string(kTemporary) + "/" + name);
  }
  return folders;
}

std::vector<std::string> FoldersOf(Whose whose) {
  std::vector<std::string> folders = ControlDirectories();
  const char* chosen = std::getenv(env::kControlDir);
  const bool one = chosen != nullptr && *chosen != '\0';
  if (whose == Whose::kOwn || geteuid() != 0 || one) return folders;
  for (const std::string& folder : EveryonesFolders()) {
    if (std::find(folders.begin(), folders.end(), folder) == folders.end()) folders.push_back(folder);
  }
  return folders;
}

// Not through a link: who may write beside it would lead us elsewhere. Null: none that is ours to use.
Folder OpenFolder(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return nullptr;
  struct stat info {};
  const bool usable =
      fstat(fd, &info) == 0 && (info.st_mode & 022) == 0 && (geteuid() == 0 || info.st_uid == geteuid());
  Folder folder(usable ? fdopendir(fd) : nullptr);
  if (!folder) close(fd);
  return folder;
}

enum class Listener { kThere, kDead, kUnknown };

Listener Probe(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (fd < 0 || path.size() >= sizeof address.sun_path) {
    if (fd >= 0) close(fd);
    return Listener::kUnknown;
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const bool connected = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  const int error = errno;
  close(fd);
  if (connected || error == EAGAIN) return Listener::kThere;
  return error == ECONNREFUSED ? Listener::kDead : Listener::kUnknown;
}

// Takes away what a process left behind that was killed.
void RemoveDead(DIR* folder, const std::string& name) { unlinkat(dirfd(folder), name.c_str(), 0); }

bool IsSocket(DIR* folder, const std::string& name, struct stat* info) {
  return fstatat(dirfd(folder), name.c_str(), info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(info->st_mode);
}

void AddTargets(const std::string& path, std::vector<ControlTarget>* out) {
  const Folder folder = OpenFolder(path);
  if (!folder) return;
  constexpr std::string_view kUnfinished = ".sock.new";
  for (const std::string& name : NamesIn(folder.get())) {
    struct stat info {};
    const pid_t pid = PidOfSocket(name);
    const bool unfinished =
        name.size() > kUnfinished.size() &&
        name.compare(name.size() - kUnfinished.size(), kUnfinished.size(), kUnfinished) == 0;
    if ((pid == 0 && !unfinished) || !IsSocket(folder.get(), name, &info)) continue;
    std::string socket = fmt::format("{}/{}", path, name);
    const Listener listener = Probe(socket);
    const bool old = std::time(nullptr) - info.st_mtime > kStartSeconds;
    // A process that lives may be making a new socket just now (Ask).
    const bool dead = pid != 0 ? kill(pid, 0) != 0 && errno == ESRCH : old;
    if (listener == Listener::kDead && dead) RemoveDead(folder.get(), name);
    if (listener != Listener::kUnknown && !dead && pid != 0) out->push_back({pid, std::move(socket)});
  }
}

}  // namespace

void RemoveName(const ControlTarget& target) {
  const size_t slash = target.path.rfind('/');
  const Folder folder = OpenFolder(target.path.substr(0, slash));
  if (folder) RemoveDead(folder.get(), target.path.substr(slash + 1));
}

std::vector<ControlTarget> FindTargets(Whose whose) {
  std::vector<ControlTarget> targets;
  for (const std::string& folder : FoldersOf(whose)) AddTargets(folder, &targets);
  std::sort(targets.begin(), targets.end(),
            [](const ControlTarget& a, const ControlTarget& b) { return a.pid < b.pid; });
  return targets;
}

Failure FindTarget(pid_t pid, ControlTarget* out) {
  for (const ControlTarget& target : FindTargets(Whose::kEveryones)) {
    if (target.pid != pid) continue;
    *out = target;
    return {};
  }
  if (kill(pid, 0) != 0 && errno == ESRCH)
    return {kExitNoProcess,
            fmt::format("there is no process {}; 'gpuroom ps' lists those under gpuroom", pid)};
  const ProcessInfo info = ReadProcessInfo(pid);
  if (geteuid() != 0 && info.uid && *info.uid != geteuid()) {
    return {kExitNotPermitted,
            fmt::format("process {} is user {}'s; ask as that user or as root", pid, UserName(*info.uid))};
  }
  return {
      kExitNoProcess,
      fmt::format(
          "process {} ({}) cannot be asked: it was not started with 'gpuroom run' (or with --no-control, or "
          "another GPUROOM_CONTROL_DIR), or has not used a GPU yet; see 'gpuroom ps'",
          pid, info.command)};
}

}  // namespace gpuroom
