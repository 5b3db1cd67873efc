// BackupChunk: a host chunk that holds backups, and where one device's copy engines reach it.
//
// Show: one thread at a time. The destructor: any thread.
#pragma once

#include <vector>

#include "tier/host_tier.h"

namespace gpuroom {

class BackupChunk {
 public:
  // Takes over a chunk that `tier` gave out.
  BackupChunk(HostTier& tier, const Chunk& chunk, CUdevice device)
      : tier_(tier), chunk_(chunk), device_(device), va_(tier.views().Find(chunk, device)) {
    tier_.Lend(chunk.bytes);
  }
  // Gives it back; it stays shown for the next that needs it.
  ~BackupChunk();
  BackupChunk(const BackupChunk&) = delete;
  BackupChunk& operator=(const BackupChunk&) = delete;

  // Shows those of one device and tier together: one call opens all of them. On failure none more is shown.
  static Status ShowTogether(const std::vector<BackupChunk*>& chunks);
  // Shows it if it is not.
  Status Show() { return va_ != 0 ? Status() : ShowTogether({this}); }
  // Lets go of the chunk, which somebody else owns from now on.
  void Forget();

  CUdeviceptr va() const { return va_; }  // 0: not shown
  const Chunk& chunk() const { return chunk_; }

 private:
  HostTier& tier_;
  const Chunk chunk_;
  const CUdevice device_;
  CUdeviceptr va_;
  bool owned_ = true;
};

}  // namespace gpuroom
