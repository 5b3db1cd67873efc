// Ring: buffers of pinned memory through which a device's contents pass to and from
// what its copy engines cannot reach: one copies while several threads empty or fill
// the others (docs/measurements.md: creating pinned memory for all of it is slower).
//
// Used with one context current, by one thread.
#pragma once

#include <functional>
#include <vector>

#include "driver/driver.h"
#include "sleep/sleeping_memory.h"
#include "sleep/workers.h"

namespace gpuroom {

class Ring {
 public:
  using Work = Status (*)(const Slice&, char* data);

  Ring(const Driver& driver, HostTier& host) : driver_(driver), host_(host) {}
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Takes buffers for slices of `bytes` in all, or as many as there is room for. The smallest ring
  // is taken beyond the host's limit, too: a wake must not fail for want of it.
  Status Open(uint64_t bytes);
  // Copies every slice to a buffer, where `work` is done to it. Ends when all is done, or with the
  // first failure.
  Status FromDevice(const std::vector<Slice>& slices, Work work);
  // The other way: `work` fills the buffer, which is copied to the device.
  Status ToDevice(const std::vector<Slice>& slices, Work work);

 private:
  struct Buffer {
    char* data = nullptr;
    CUevent copied = nullptr;
    const Slice* slice = nullptr;
  };
  Status Allocate(uint64_t bytes);
  Status MakeBuffers();
  void Begin(Work work);
  Status Submit(size_t buffer, bool to_device);
  Status Land(size_t* buffer);
  Status Settle(const Status& status);

  const Driver& driver_;
  HostTier& host_;
  uint64_t claimed_ = 0;
  uint64_t bytes_ = 0;
  void* data_ = nullptr;
  CUstream stream_ = nullptr;
  std::vector<Buffer> buffers_;
  std::vector<size_t> free_;
  BoundedQueue<size_t> flying_;  // being copied, the oldest first
  Workers workers_;              // last: stops before the buffers go
};

}  // namespace gpuroom
