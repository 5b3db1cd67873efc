// MappedChunk: a host chunk that holds backups, mapped at an address of its own
// through which one device's copy engines reach it. It stays mapped while memory
// sleeps, since mapping host memory costs 10 ms a GiB (docs/measurements.md).
//
// Map and Unmap: one thread at a time. The destructor: any thread.
#pragma once

#include <memory>
#include <vector>

#include "driver/driver.h"
#include "tier/host_tier.h"

namespace headroom {

// Reserved device addresses, which several chunks may share.
class Scratch {
 public:
  static Result<std::shared_ptr<Scratch>> Reserve(const Driver& driver, uint64_t bytes);
  Scratch(const Driver& driver, CUdeviceptr va, uint64_t bytes) : driver_(driver), va_(va), bytes_(bytes) {}
  // Nothing is mapped there any more.
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  CUdeviceptr va() const { return va_; }

 private:
  const Driver& driver_;
  const CUdeviceptr va_;
  const uint64_t bytes_;
};

class MappedChunk {
 public:
  // Takes over a chunk that `tier` gave out.
  MappedChunk(const Driver& driver, HostTier& tier, const Chunk& chunk, CUdevice device)
      : driver_(driver), tier_(tier), chunk_(chunk), device_(device) {}
  // Unmaps it and gives it back.
  ~MappedChunk();
  MappedChunk(const MappedChunk&) = delete;
  MappedChunk& operator=(const MappedChunk&) = delete;

  // Maps those of one device side by side: one call opens all of them. None of them is mapped yet;
  // on failure none is.
  static Status MapTogether(const std::vector<MappedChunk*>& chunks);
  // Maps it if it is not.
  Status Map() { return va_ != 0 ? Status() : MapTogether({this}); }
  void Unmap();
  // Lets go of the chunk, which somebody else owns from now on. It may stay mapped for a while.
  void Forget();

  CUdeviceptr va() const { return va_; }
  const Chunk& chunk() const { return chunk_; }

 private:
  static Status MapAt(const std::shared_ptr<Scratch>& scratch, const std::vector<MappedChunk*>& chunks,
                      uint64_t bytes);

  const Driver& driver_;
  HostTier& tier_;
  const Chunk chunk_;
  const CUdevice device_;
  bool owned_ = true;
  CUdeviceptr va_ = 0;  // 0: not mapped
  std::shared_ptr<Scratch> scratch_;
};

}  // namespace headroom
