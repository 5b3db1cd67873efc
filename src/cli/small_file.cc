#include "cli/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/write_signals.h"
#include "cli/descriptor.h"

namespace gpuroom {
namespace {

constexpr uint64_t kMost = 1 << 20;

bool WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

Status ReadSmallFile(const std::string& path, std::string* text) {
  return ReadRegularFile(path, kMost, text);
}

Status ReadRegularFile(const std::string& path, uint64_t most, std::string* text) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  struct stat info = {};
  if (file.fd < 0 || fstat(file.fd, &info) != 0) return Status(Code::kSystem, "cannot be opened", errno);
  if (S_ISDIR(info.st_mode)) return Status(Code::kSystem, "is a directory", EISDIR);
  if (!S_ISREG(info.st_mode)) return Status(Code::kInvalidArgument, "it is no regular file");
  if (static_cast<uint64_t>(info.st_size) > most)
    return Status(Code::kInvalidArgument, most == kMost ? "it is larger than 1 MiB" : "it is too large");
  text->assign(static_cast<size_t>(info.st_size), '\0');
  for (size_t at = 0; at < text->size();) {
    const ssize_t n = read(file.fd, text->data() + at, text->size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status(Code::kSystem, "cannot be read", errno);
    if (n == 0) text->resize(at);  // it shrank meanwhile
    at += static_cast<size_t>(n);
  }
  return Status();
}

std::string DescribeReadFailure(const Status& status) {
  return status.code() == Code::kSystem ? std::strerror(status.native()) : status.what();
}

bool ReplaceFile(const std::string& path, const std::string& text, unsigned mode) {
  std::string temporary = path + ".XXXXXX";
  const WriteSignalsBlocked
      blocked;  // past the limit on file sizes (ulimit -f) a write fails with EFBIG instead
  const int fd = mkostemp(temporary.data(), O_CLOEXEC);  // mode 0600
  if (fd < 0) return false;
  const bool written = fchmod(fd, mode) == 0 && WriteAll(fd, text) && fsync(fd) == 0;
  int error = errno;
  close(fd);
  if (written && rename(temporary.c_str(), path.c_str()) == 0) return true;
  if (written) error = errno;
  unlink(temporary.c_str());
  errno = error;
  return false;
}

}  // namespace gpuroom
