// Where a header is read from: a file, or bytes in memory. Readers ask for the bytes that they need, so that
// of a model of hundreds of gigabytes no more than its headers is read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "model/model.h"

namespace gpuroom::model {

class HeaderSource {
 public:
  virtual ~HeaderSource() = default;
  virtual uint64_t size() const = 0;
  // Exactly `count` bytes from `offset` on into `to`; false where there are not as many.
  virtual bool Read(uint64_t offset, char* to, size_t count) = 0;
};

// Views `bytes`, which outlive it.
class MemorySource : public HeaderSource {
 public:
  explicit MemorySource(std::string_view bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  bool Read(uint64_t offset, char* to, size_t count) override;

 private:
  std::string_view bytes_;
};

// A regular file. Reads what is asked for, and never waits for the other end of a FIFO.
class FileSource : public HeaderSource {
 public:
  FileSource() = default;
  ~FileSource() override;
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  Mistake Open(const std::string& path);
  // Small reads take 4 KiB at once from now on: for headers in which each number is read by itself.
  void ReadAhead() { ahead_bytes_ = 4096; }
  uint64_t size() const override { return size_; }
  bool Read(uint64_t offset, char* to, size_t count) override;

 private:
  bool ReadNow(uint64_t offset, char* to, size_t count) const;

  size_t ahead_bytes_ = 0;
  int fd_ = -1;
  uint64_t size_ = 0;
  std::string ahead_;
  uint64_t ahead_at_ = 0;
};

// All of a text file of at most `most` bytes.
Mistake ReadText(const std::string& path, uint64_t most, std::string* text);

}  // namespace gpuroom::model
