#include "model/header_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/size.h"

namespace gpuroom::model {

bool MemorySource::Read(uint64_t offset, char* to, size_t count) {
  if (offset > bytes_.size() || count > bytes_.size() - offset) return false;
  bytes_.copy(to, count, offset);
  return true;
}

FileSource::~FileSource() {
  if (fd_ >= 0) close(fd_);
}

Mistake FileSource::Open(const std::string& path) {
  fd_ = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  struct stat info = {};
  if (fd_ < 0 || fstat(fd_, &info) != 0)
    return fmt::format("cannot be read: {}; name a readable file", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return "is no regular file; name a model's file or folder";
  size_ = static_cast<uint64_t>(info.st_size);
  return "";
}

bool FileSource::Read(uint64_t offset, char* to, size_t count) {
  if (offset > size_ || count > size_ - offset) return false;
  if (count >= ahead_bytes_) return ReadNow(offset, to, count);
  if (offset < ahead_at_ || offset + count > ahead_at_ + ahead_.size()) {
    ahead_.resize(static_cast<size_t>(std::min<uint64_t>(ahead_bytes_, size_ - offset)));
    ahead_at_ = offset;
    if (!ReadNow(offset, ahead_.data(), ahead_.size())) {
      ahead_.clear();
      return false;
    }
  }
  ahead_.copy(to, count, static_cast<size_t>(offset - ahead_at_));
  return true;
}

bool FileSource::ReadNow(uint64_t offset, char* to, size_t count) const {
  while (count > 0) {
    const ssize_t n = pread(fd_, to, count, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;  // it shrank meanwhile
    offset += static_cast<uint64_t>(n);
    to += n;
    count -= static_cast<size_t>(n);
  }
  return true;
}

Mistake ReadText(const std::string& path, uint64_t most, std::string* text) {
  FileSource file;
  const Mistake mistake = file.Open(path);
  if (!mistake.empty()) return mistake;
  if (file.size() > most)
    return fmt::format("has {}, more than the {} that are read; is it another file?", FormatSize(file.size()),
                       FormatSize(most));
  text->resize(static_cast<size_t>(file.size()));
  if (!file.Read(0, text->data(), text->size())) return "cannot be read to its end; download it again";
  return "";
}

}  // namespace gpuroom::model
