// A source of segments for the pool's tests: addresses without memory, which fail with the fake device's
// calls.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "pool/source.h"
#include "pool_fakes.h"

namespace gpuroom {

// Addresses, and so many bytes of each kind. An address that was given back is the next to be given out.
class FakeSource : public SegmentSource {
 public:
  explicit FakeSource(FakeDevice& device) : device_(device) {}

  Result<CUdeviceptr> Create(uint64_t bytes, CUstream, Where where) override {
    const std::lock_guard lock(mutex_);
    if (device_.Fails()) return Status(Code::kDriver, "made to fail", 999);
    uint64_t& room = bytes <= resident || where == Where::kResident ? resident : spill;
    if (bytes > room) return Status(Code::kOutOfMemory, "the fake source is full");
    room -= bytes;
    CUdeviceptr va = next_;
    const auto again = spare_.find(bytes);
    if (again != spare_.end()) {
      va = again->second;
      spare_.erase(again);
    } else {
      next_ += bytes;
    }
    live[va] = {bytes, &room};
    born[va] = ++creates_;
    return va + misalign;
  }
  Status Destroy(CUdeviceptr va) override {
    const std::lock_guard lock(mutex_);
    if (device_.Fails()) return {Code::kDriver, "made to fail", 999};
    const auto found = live.find(va - misalign);
    if (found == live.end()) {
      ADD_FAILURE() << "destroyed what is not there";
      return {Code::kNotFound, "no such segment"};
    }
    device_.ExpectUnused(va, found->second.first);
    *found->second.second += found->second.first;
    spare_.emplace(found->second.first, found->first);
    live.erase(found);
    return {};
  }

  uint64_t resident = UINT64_MAX / 2;
  uint64_t spill = 0;
  uint64_t misalign = 0;
  std::map<CUdeviceptr, std::pair<uint64_t, uint64_t*>> live;
  std::map<CUdeviceptr, uint64_t> born;  // tells a segment from one before it at the same address

 private:
  FakeDevice& device_;
  std::mutex mutex_;
  std::multimap<uint64_t, CUdeviceptr> spare_;
  CUdeviceptr next_ = CUdeviceptr{1} << 40;
  uint64_t creates_ = 0;
};

}  // namespace gpuroom
