// BackupRoom: host chunks for the backups of one device, from those that its host tier
// keeps. It creates none: that is slower than ordinary memory (docs/measurements.md).
#pragma once

#include "sleep/sleeping_memory.h"

namespace gpuroom {

class BackupRoom {
 public:
  BackupRoom(HostTier& host, CUdevice device) : host_(host), device_(device) {}

  // Room for the beginning of a run of `bytes`: `chunk`, `at` and `bytes` of the backup are filled
  // in. False: there is none left.
  bool Take(uint64_t bytes, Backup* backup);

 private:
  uint64_t Left() const { return open_ == nullptr ? 0 : open_->chunk().bytes - used_; }
  std::shared_ptr<BackupChunk> Adopt(const Chunk& chunk) const;

  HostTier& host_;
  const CUdevice device_;
  std::shared_ptr<BackupChunk> open_;  // shared by several runs
  uint64_t used_ = 0;                  // of it
};

}  // namespace gpuroom
