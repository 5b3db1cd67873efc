// PeerTier: the part of another GPU's memory that one GPU may use, as chunks that
// it reaches over NVLink or PCIe. They count against the owner's budget, too, and
// leave its reserve free. Any thread.
#pragma once

#include "tier/device_tier.h"

namespace gpuroom {

class PeerTier {
 public:
  // `limit`: bytes of `owner` that may be used this way at most. With `while_idle`, none are
  // taken once the program uses that GPU itself, or while another live process uses it.
  PeerTier(DeviceTier& owner, uint64_t limit, bool while_idle)
      : owner_(owner), while_idle_(while_idle), in_use_(limit) {}

  // As DeviceTier's.
  Result<Chunk> Create(uint64_t bytes);
  Status Release(const Chunk& chunk);

  // Bytes that chunks may still take, as far as budgets know: the owner's driver
  // may have less.
  uint64_t Free();
  CUdevice device() const { return owner_.device(); }
  const Budget& in_use() const { return in_use_; }

 private:
  bool Lends() const { return !while_idle_ || (!owner_.used() && !owner_.UsedByOthers()); }

  DeviceTier& owner_;
  const bool while_idle_;
  Budget in_use_;
};

}  // namespace gpuroom
