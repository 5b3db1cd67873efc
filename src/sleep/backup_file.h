// BackupFile: a file that holds backups. Without a name it is gone when its last
// descriptor is, by kill -9 too; with one it can be seen in its directory, and a process
// that is killed leaves it there. Written and read past the page cache where the file
// system can do that. Write and Read: any thread.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "base/status.h"

namespace gpuroom {

enum class FileName { kNone, kVisible };

class BackupFile {
 public:
  // Room for `bytes` in it is taken at once where the file system can do that.
  // kInvalidArgument: the directory cannot be used. kOutOfMemory: the disk has no room.
  static Result<std::shared_ptr<BackupFile>> Create(const char* directory, uint64_t bytes, FileName name);
  // Removes the file's name with itself, if `path` is not empty. A child of fork leaves it.
  BackupFile(int fd, std::string path);
  ~BackupFile();
  BackupFile(const BackupFile&) = delete;
  BackupFile& operator=(const BackupFile&) = delete;

  // `data`, `bytes` and `offset` are multiples of 4 KiB.
  Status Write(const char* data, uint64_t bytes, uint64_t offset);
  Status Read(char* data, uint64_t bytes, uint64_t offset);
  // Gives the disk that much back, where it can.
  void Drop(uint64_t offset, uint64_t bytes);

 private:
  bool LeaveDirect() const;

  const int fd_;
  const std::string path_;  // empty: it has no name
  const pid_t owner_;
};

// A part of a file that is dropped with this.
class FileSpan {
 public:
  FileSpan(std::shared_ptr<BackupFile> file, uint64_t offset, uint64_t bytes)
      : file_(std::move(file)), offset_(offset), bytes_(bytes) {}
  ~FileSpan() {
    // With the last of them the file goes as a whole.
    if (file_.use_count() > 1) file_->Drop(offset_, bytes_);
  }
  FileSpan(const FileSpan&) = delete;
  FileSpan& operator=(const FileSpan&) = delete;

  Status Write(const char* data, uint64_t bytes, uint64_t at) const {
    return file_->Write(data, bytes, offset_ + at);
  }
  Status Read(char* data, uint64_t bytes, uint64_t at) const {
    return file_->Read(data, bytes, offset_ + at);
  }

 private:
  const std::shared_ptr<BackupFile> file_;
  const uint64_t offset_;
  const uint64_t bytes_;
};

}  // namespace gpuroom
