#include "cli/control_targets.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>
#include <optional>
#include <string_view>

#include "base/env.h"
#include "cli/descriptor.h"
#include "cli/process_info.h"
#include "sleep/control_directory.h"
#include "sleep/control_line.h"
#include "sleep/control_service.h"

namespace gpuroom {
namespace {

constexpr char kTemporary[] = "/tmp";
constexpr char kTemporaryPrefix[] = "gpuroom-";
constexpr char kLogins[] = "/run/user";
// A .sock.new file is a socket that is being set up; after so many seconds its process has died.
constexpr time_t kStartSeconds = 60;
// Of one folder: more names than a machine has processes under gpuroom are there to cost us time.
constexpr size_t kMostNames = 20000;

struct CloseDir {
  void operator()(DIR* folder) const { closedir(folder); }
};
using OpenedFolder = std::unique_ptr<DIR, CloseDir>;

std::vector<std::string> NamesIn(DIR* folder) {
  std::vector<std::string> names;
  while (names.size() < kMostNames) {
    const dirent* entry = readdir(folder);
    if (entry == nullptr) break;
    names.emplace_back(entry->d_name);
  }
  return names;
}

std::vector<std::string> NamesIn(const std::string& path) {
  const OpenedFolder folder(opendir(path.c_str()));
  return folder ? NamesIn(folder.get()) : std::vector<std::string>();
}

// A folder in which sockets may be.
struct Place {
  std::string path;
  std::optional<uid_t> owner;  // whose it has to be; empty: whoever has it
};

std::optional<uid_t> ParseUser(std::string_view text) {
  const Result<uint64_t> uid = ParsePlainDecimal(text);
  if (!uid.ok() || *uid > UINT32_MAX) return std::nullopt;
  return static_cast<uid_t>(*uid);
}

// Every user's folders, as root may see them.
std::vector<Place> EveryonesPlaces() {
  std::vector<Place> places;
  for (const std::string& name : NamesIn(kLogins)) {
    const std::optional<uid_t> uid = ParseUser(name);
    if (uid) places.push_back({fmt::format("{}/{}/gpuroom", kLogins, name), uid});
  }
  const size_t length = sizeof kTemporaryPrefix - 1;
  for (const std::string& name : NamesIn(kTemporary)) {
    if (name.compare(0, length, kTemporaryPrefix) != 0) continue;
    const std::optional<uid_t> uid = ParseUser(std::string_view(name).substr(length));
    if (uid) places.push_back({fmt::format("{}/{}", kTemporary, name), uid});
  }
  return places;
}

std::vector<Place> PlacesOf(Whose whose) {
  std::vector<Place> places;
  for (const std::string& path : ControlDirectories()) places.push_back({path, std::nullopt});
  const char* chosen = std::getenv(env::kControlDir);
  const bool one = chosen != nullptr && *chosen != '\0';
  if (whose == Whose::kOwn || geteuid() != 0 || one) return places;
  const size_t own = places.size();
  for (Place& place : EveryonesPlaces()) {
    const auto same = [&](const Place& other) { return other.path == place.path; };
    const auto end = places.begin() + static_cast<std::ptrdiff_t>(own);
    if (std::none_of(places.begin(), end, same)) places.push_back(std::move(place));
  }
  return places;
}

// Not through a link: who may write beside it would lead us elsewhere. Null: none that is ours to use.
OpenedFolder OpenPlace(const Place& place, uid_t* owner) {
  const int fd = open(place.path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return nullptr;
  struct stat info {};
  const bool usable = fstat(fd, &info) == 0 && (info.st_mode & 022) == 0 &&
                      (geteuid() == 0 || info.st_uid == geteuid()) &&
                      (!place.owner || *place.owner == info.st_uid);
  *owner = info.st_uid;
  OpenedFolder folder(usable ? fdopendir(fd) : nullptr);
  if (!folder) close(fd);
  return folder;
}

// How much is known of who listens under a name, the best first. Of two names of one process the better
// counts.
enum class Listener {
  kProven,   // the process itself
  kUnheard,  // its queue is full, or it is about to listen again
  kStranger,
  kNobody,
  kUnknown,
};

Listener Probe(const ControlTarget& target) {
  sockaddr_un address{};
  const Descriptor probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (probe.fd < 0 || !SocketAddress(target.path, &address)) return Listener::kUnknown;
  if (connect(probe.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0)
    return CheckListener(probe.fd, target).failed() ? Listener::kStranger : Listener::kProven;
  if (errno == EAGAIN) return Listener::kUnheard;
  if (errno != ECONNREFUSED) return Listener::kUnknown;
  return MayListen(target.pid) ? Listener::kUnheard : Listener::kNobody;
}

bool Exists(pid_t pid) { return kill(pid, 0) == 0 || errno != ESRCH; }

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() > end.size() && text.substr(text.size() - end.size()) == end;
}

// What a search has come upon.
struct Candidate {
  ControlTarget target;
  Listener listener;
};

class Search {
 public:
  void LookInto(const Place& place) {
    uid_t owner = 0;
    const OpenedFolder folder = OpenPlace(place, &owner);
    if (!folder) return;
    for (const std::string& name : NamesIn(folder.get())) LookAt(folder.get(), place.path, name, owner);
  }

  FoundTargets Finish() {
    const auto better = [](const Candidate& a, const Candidate& b) {
      return a.target.pid != b.target.pid ? a.target.pid < b.target.pid : a.listener < b.listener;
    };
    std::stable_sort(candidates_.begin(), candidates_.end(), better);
    for (Candidate& candidate : candidates_) {
      std::vector<ControlTarget>& targets = found_.targets;
      if (targets.empty() || targets.back().pid != candidate.target.pid)
        targets.push_back(std::move(candidate.target));
    }
    return std::move(found_);
  }

 private:
  void LookAt(DIR* folder, const std::string& path, const std::string& name, uid_t owner) {
    struct stat info {};
    ControlTarget target{PidOfSocket(name), fmt::format("{}/{}", path, name), owner};
    const bool unfinished = EndsWith(name, ".sock.new");
    if (target.pid == 0 && !unfinished) return;
    if (fstatat(dirfd(folder), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISSOCK(info.st_mode))
      return;
    const bool old = std::time(nullptr) - info.st_mtime > kStartSeconds;
    if (unfinished && !old) return;
    const Listener listener = Probe(target);
    if (listener == Listener::kNobody) Remove(folder, name, info.st_ino);
    if (target.pid == 0 || !Exists(target.pid)) return;
    if (listener == Listener::kNobody) found_.dead.push_back(target.pid);
    if (listener < Listener::kNobody) candidates_.push_back({std::move(target), listener});
  }

  // Unless a process that has just started has put its own socket there.
  static void Remove(DIR* folder, const std::string& name, ino_t inode) {
    struct stat info {};
    if (fstatat(dirfd(folder), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && info.st_ino == inode)
      unlinkat(dirfd(folder), name.c_str(), 0);
  }

  std::vector<Candidate> candidates_;
  FoundTargets found_;
};

// Why a process that no socket leads to cannot be asked.
Failure Unreachable(pid_t pid) {
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

}  // namespace

Failure NobodyAnswers(pid_t pid) {
  return {
      kExitNoProcess,
      fmt::format("nobody answers for process {}: the program that did has ended, or has started another in "
                  "its place; see 'gpuroom ps'",
                  pid)};
}

bool MayListen(pid_t pid) {
  const std::string tasks = fmt::format("/proc/{}/task", pid);
  for (const std::string& task : NamesIn(tasks)) {
    std::ifstream file(fmt::format("{}/{}/comm", tasks, task));
    std::string name;
    if (std::getline(file, name) && name == kControlThread) return true;
  }
  return false;
}

Failure CheckListener(int fd, const ControlTarget& target) {
  ucred peer{};
  socklen_t length = sizeof peer;
  const bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0;
  if (known && peer.pid != target.pid) {
    return {kExitNoProcess,
            fmt::format("the process that answers for {} is another container's; run this command there",
                        target.pid)};
  }
  // The kernel remembers who began to listen. Of another user's listener that has ended the number may have
  // come to the process meant, while a child of it still holds the socket: so that process has to be this
  // user's, too.
  const bool own = known && peer.uid == target.owner && (peer.uid == 0 || RunsAs(target.pid, peer.uid));
  if (own) return {};
  return {kExitNotPermitted,
          fmt::format("process {} is another user's; ask as that user or as root", target.pid)};
}

FoundTargets FindTargets(Whose whose) {
  Search search;
  for (const Place& place : PlacesOf(whose)) search.LookInto(place);
  return search.Finish();
}

Failure PickTarget(const FoundTargets& found, pid_t pid, ControlTarget* out) {
  for (const ControlTarget& target : found.targets) {
    if (target.pid != pid) continue;
    *out = target;
    return {};
  }
  if (!Exists(pid))
    return {kExitNoProcess,
            fmt::format("there is no process {}; 'gpuroom ps' lists those under gpuroom", pid)};
  const bool dead = std::find(found.dead.begin(), found.dead.end(), pid) != found.dead.end();
  return dead ? NobodyAnswers(pid) : Unreachable(pid);
}

}  // namespace gpuroom
