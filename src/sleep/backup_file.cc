#include "sleep/backup_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <utility>

#include "base/log.h"
#include "base/undo.h"
#include "sleep/system_calls.h"

namespace gpuroom {
namespace {

constexpr int kFlags = O_RDWR | O_CLOEXEC;

struct OpenedFile {
  int fd = -1;
  std::string path;  // empty: it has no name
};

bool Unlink(const std::string& path) {
  return System().unlink(path.c_str()) == 0 || System().unlink(path.c_str()) == 0;
}

// A file with a name that no other has: a process of the same number may have left some.
OpenedFile OpenNamed(const char* directory) {
  static std::atomic<unsigned> next{0};
  OpenedFile file;
  do {
    file.path = std::string(directory) + "/gpuroom-sleep-" + std::to_string(getpid()) + "-" +
                std::to_string(next.fetch_add(1));
    file.fd = System().open(file.path.c_str(), kFlags | O_CREAT | O_EXCL, 0600);
  } while (file.fd < 0 && errno == EEXIST);
  return file;
}

// Where the file system has no files without names: one that loses its name at once.
OpenedFile OpenAndUnlink(const char* directory) {
  const OpenedFile file = OpenNamed(directory);
  if (file.fd < 0 || Unlink(file.path)) return {file.fd, ""};
  const int error = errno;
  System().close(file.fd);
  errno = error;
  return {};
}

OpenedFile OpenUnnamed(const char* directory) {
  const int fd = System().open(directory, kFlags | O_TMPFILE, 0600);
  if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) return OpenAndUnlink(directory);
  return {fd, ""};
}

OpenedFile OpenIn(const char* directory, FileName name) {
  OpenedFile file = name == FileName::kVisible ? OpenNamed(directory) : OpenUnnamed(directory);
  // Past the page cache, which the program may need for itself. What cannot do that goes through it.
  if (file.fd >= 0) System().set_flags(file.fd, O_DIRECT);
  return file;
}

bool IsFull(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

Status Full(int error) {
  return {Code::kOutOfMemory, "the disk has no room for the backup; free some, or name another directory",
          error};
}

}  // namespace

Result<std::shared_ptr<BackupFile>> BackupFile::Create(const char* directory, uint64_t bytes, FileName name) {
  if (directory == nullptr) {
    return Status(Code::kInvalidArgument, "a sleep to disk needs a directory for its backups; name one");
  }
  const OpenedFile opened = OpenIn(directory, name);
  const int fd = opened.fd;
  if (fd < 0 && IsFull(errno)) return Full(errno);
  if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EIO)) {
    return Status(Code::kSystem, "opening a file for backups", errno);
  }
  if (fd < 0) {
    return Status(Code::kInvalidArgument,
                  "the directory for backups cannot be used; name an existing one that can be written to",
                  errno);
  }
  Undo close([&] {
    if (!opened.path.empty()) Unlink(opened.path);
    System().close(fd);
  });
  auto file = std::make_shared<BackupFile>(fd, opened.path);
  close.Dismiss();
  int result = 0;
  do {
    result = System().allocate(fd, 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  // Not posix_fallocate: where the file system cannot do it, that writes to every block, and not
  // past the page cache. Then a full disk is met while writing.
  if (result == 0 || errno == EOPNOTSUPP || errno == ENOSYS) return file;
  return IsFull(errno) ? Full(errno) : Status(Code::kSystem, "taking room on the disk for backups", errno);
}

BackupFile::BackupFile(int fd, std::string path) : fd_(fd), path_(std::move(path)), owner_(getpid()) {}

BackupFile::~BackupFile() {
  if (!path_.empty() && owner_ == getpid() && !Unlink(path_) && errno != ENOENT)
    Log(LogLevel::kWarn, "the backup file %s could not be removed (errno %d); remove it", path_.c_str(),
        errno);
  if (System().close(fd_) != 0) Log(LogLevel::kWarn, "closing a backup file failed (errno %d)", errno);
}

// Some file systems take the flag and then refuse the memory: once more through the page cache.
bool BackupFile::LeaveDirect() const { return System().set_flags(fd_, 0) == 0; }

Status BackupFile::Write(const char* data, uint64_t bytes, uint64_t offset) {
  bool direct = true;
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t wrote = System().write(fd_, data + done, bytes - done, static_cast<off_t>(offset + done));
    if (wrote > 0) {
      done += static_cast<uint64_t>(wrote);
      continue;
    }
    const int error = wrote == 0 ? EIO : errno;
    if (error == EINTR) continue;
    if ((error == EINVAL || error == EFAULT) && direct && LeaveDirect()) {
      direct = false;
      continue;
    }
    return IsFull(error) ? Full(error) : Status(Code::kSystem, "writing a backup to disk", error);
  }
  return Status();
}

Status BackupFile::Read(char* data, uint64_t bytes, uint64_t offset) {
  bool direct = true;
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t got = System().read(fd_, data + done, bytes - done, static_cast<off_t>(offset + done));
    if (got > 0) {
      done += static_cast<uint64_t>(got);
      continue;
    }
    const int error = got == 0 ? EIO : errno;
    if (error == EINTR) continue;
    if ((error == EINVAL || error == EFAULT) && direct && LeaveDirect()) {
      direct = false;
      continue;
    }
    return {Code::kSystem, "a backup on disk cannot be read; try again, or free this memory", error};
  }
  return Status();
}

void BackupFile::Drop(uint64_t offset, uint64_t bytes) {
  System().allocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                    static_cast<off_t>(bytes));
}

}  // namespace gpuroom
