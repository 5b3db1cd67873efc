// What /proc says of a process, for people.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace gpuroom {

struct ProcessInfo {
  std::optional<uid_t> uid;  // empty: it is gone
  std::string command;       // its arguments, with spaces between; "?" where they are not known
};

ProcessInfo ReadProcessInfo(pid_t pid);
// Whether the process has this user's rights: as its real, effective, saved or file system user.
bool RunsAs(pid_t pid, uid_t uid);
// The number itself where there is no such name.
std::string UserName(uid_t uid);

}  // namespace gpuroom
