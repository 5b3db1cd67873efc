#include "cli/process_info.h"

#include <pwd.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>

namespace gpuroom {

ProcessInfo ReadProcessInfo(pid_t pid) {
  ProcessInfo info;
  const std::string folder = "/proc/" + std::to_string(pid);
  struct stat owner {};
  if (stat(folder.c_str(), &owner) == 0) info.uid = owner.st_uid;
  std::ifstream file(folder + "/cmdline", std::ios::binary);
  info.command.assign(std::istreambuf_iterator<char>(file), {});
  while (!info.command.empty() && info.command.back() == '\0') info.command.pop_back();
  for (char& c : info.command) c = c == '\0' ? ' ' : c;
  if (info.command.empty()) info.command = "?";
  return info;
}

bool RunsAs(pid_t pid, uid_t uid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string word; file >> word;) {
    if (word != "Uid:") continue;
    uid_t number = 0;
    for (int i = 0; i < 4 && file >> number; ++i) {
      if (number == uid) return true;
    }
    return false;
  }
  return false;
}

std::string UserName(uid_t uid) {
  const passwd* entry = getpwuid(uid);
  return entry != nullptr ? entry->pw_name : std::to_string(uid);
}

}  // namespace gpuroom
