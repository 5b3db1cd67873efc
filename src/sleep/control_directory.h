// The folder in which the processes of one user have their control sockets: where
// it is, and whether it is private. Plain system calls; any thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/status.h"

namespace gpuroom {

// $GPUROOM_CONTROL_DIR, else gpuroom in $XDG_RUNTIME_DIR where that is a folder of
// this user's, else /tmp/gpuroom-UID.
std::string ControlDirectory();
// Where sockets of this user may be: a process may have been started in another
// environment. Some of them need not exist.
std::vector<std::string> ControlDirectories();

// Makes it (mode 0700) where it is missing. kInvalidArgument: it is a link, another
// user's or open to others; the text names the fix. kSystem: it cannot be made.
Status MakeControlDirectory(const std::string& path);

// "PATH/PID.sock".
std::string ControlSocketPath(const std::string& directory, pid_t pid);
// The process of such a name without its folder; 0: it is none.
pid_t PidOfSocket(const std::string& name);

}  // namespace gpuroom
