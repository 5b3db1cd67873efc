// HostBlock: ordinary host memory for backups, in huge pages where the system has
// them, counted against the host's limit. It takes no memory before it is written.
#pragma once

#include <memory>

#include "tier/host_tier.h"

namespace gpuroom {

class HostBlock {
 public:
  // kOutOfMemory: the limit or the system has no room.
  static Result<std::unique_ptr<HostBlock>> Make(HostTier& tier, uint64_t bytes);
  ~HostBlock();
  HostBlock(const HostBlock&) = delete;
  HostBlock& operator=(const HostBlock&) = delete;

  char* data() const { return data_; }

 private:
  HostBlock(HostTier& tier, uint64_t bytes, char* mapped);

  HostTier& tier_;
  const uint64_t bytes_;
  char* const mapped_;  // a huge page more than `bytes_`
  char* const data_;    // in it, where a huge page begins
};

}  // namespace gpuroom
