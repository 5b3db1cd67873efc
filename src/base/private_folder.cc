#include "base/private_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace gpuroom {

FolderState StateOfFolder(const char* path) {
  const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? FolderState::kMissing : FolderState::kNotAFolder;
  struct stat info {};
  const bool known = fstat(fd, &info) == 0;
  close(fd);
  if (!known || info.st_uid != geteuid()) return FolderState::kForeign;
  return (info.st_mode & 077) != 0 ? FolderState::kOpenToOthers : FolderState::kPrivate;
}

FolderState MakePrivateFolder(const char* path) {
  if (mkdir(path, 0700) != 0 && errno != EEXIST) return FolderState::kMissing;
  return StateOfFolder(path);
}

}  // namespace gpuroom
