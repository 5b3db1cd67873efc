// HostAhead: a thread that creates host chunks before they are asked for, since
// creating them runs at 2-6 GB/s and mapping them at 100 (docs/measurements.md), and shows
// them to a device, so that a sleep need not.
// What it made counts as kept: it is claimed, handed out by size, and given back
// when something else needs the room. What holds backups is not made up for: it comes back, and
// creating would hold up the driver's calls of the sleep and the wake.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "tier/host_tier.h"

namespace gpuroom {

class HostAhead {
 public:
  // Sees to it from now on that `bytes` are kept, as far as the limit allows. Throws
  // std::system_error where no thread can be started.
  HostAhead(HostTier& tier, CUdevice device, uint64_t bytes);
  // Waits for the chunk that is being created, some 15 ms.
  ~HostAhead();
  HostAhead(const HostAhead&) = delete;
  HostAhead& operator=(const HostAhead&) = delete;

 private:
  void Run();

  HostTier& tier_;
  const CUdevice device_;
  const uint64_t bytes_;
  std::mutex mutex_;
  std::condition_variable stopping_;
  bool stop_ = false;  // under mutex_
  std::thread thread_;
};

}  // namespace gpuroom
