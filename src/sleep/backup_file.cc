#include "sleep/backup_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>

#include "base/log.h"
#include "base/undo.h"
#include "sleep/system_calls.h"

namespace gpuroom {
namespace {

constexpr int kFlags = O_RDWR | O_CLOEXEC;

// Where the file system has no files without names: one that loses its name at once.
int OpenAndUnlink(const char* directory) {
  static std::atomic<unsigned> next{0};
  char path[4096];
  const int length = std::snprintf(path, sizeof path, "%s/gpuroom-sleep-%d-%u", directory,
                                   static_cast<int>(getpid()), next.fetch_add(1));
  if (length < 0 || static_cast<size_t>(length) >= sizeof path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  const int fd = System().open(path, kFlags | O_CREAT | O_EXCL, 0600);
  if (fd < 0) return -1;
  if (System().unlink(path) == 0 || System().unlink(path) == 0) return fd;
  const int error = errno;
  System().close(fd);
  errno = error;
  return -1;
}

int OpenIn(const char* directory) {
  int fd = System().open(directory, kFlags | O_TMPFILE, 0600);
  if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) fd = OpenAndUnlink(directory);
  // Past the page cache, which the program may need for itself. What cannot do that goes through it.
  if (fd >= 0) System().set_flags(fd, O_DIRECT);
  return fd;
}

bool IsFull(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

Status Full(int error) {
  return {Code::kOutOfMemory, "the disk has no room for the backup; free some, or name another directory",
          error};
}

}  // namespace

Result<std::shared_ptr<BackupFile>> BackupFile::Create(const char* directory, uint64_t bytes) {
  if (directory == nullptr) {
    return Status(Code::kInvalidArgument, "a sleep to disk needs a directory for its backups; name one");
  }
  const int fd = OpenIn(directory);
  if (fd < 0 && IsFull(errno)) return Full(errno);
  if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EIO)) {
    return Status(Code::kSystem, "opening a file for backups", errno);
  }
  if (fd < 0) {
    return Status(Code::kInvalidArgument,
                  "the directory for backups cannot be used; name an existing one that can be written to",
                  errno);
  }
  Undo close([&] { System().close(fd); });
  auto file = std::make_shared<BackupFile>(fd);
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

BackupFile::~BackupFile() {
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
