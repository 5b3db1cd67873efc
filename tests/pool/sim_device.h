// The simulated device for the pool's tests: a context, kernels, and a source of segments made of
// chunks, so that memory given back while work still touches it is an illegal address.
#pragma once

#include <cuda.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <mutex>
#include <vector>

#include "driver/driver.h"
#include "pool/source.h"

namespace gpuroom {

class SimSource : public SegmentSource {
 public:
  Result<CUdeviceptr> Create(uint64_t bytes, CUstream stream, Where where) override;
  Status Destroy(CUdeviceptr va) override;

  void SetRoom(uint64_t resident, uint64_t spill);
  size_t live();
  std::atomic<unsigned> fail_one_in{0};  // creates and destroys, by their number; 0: none

 private:
  struct Segment {
    uint64_t bytes;
    bool spilled;
  };
  bool MadeToFail();
  Result<CUdeviceptr> Map(uint64_t bytes, CUmemLocationType where);

  std::mutex mutex_;
  std::map<CUdeviceptr, Segment> live_;
  uint64_t room_[2] = {UINT64_MAX, 0};  // resident, spill
  std::atomic<unsigned> calls_{0};
};

class SimDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // For each thread of the test's own.
  void Enter() const { ASSERT_EQ(cuCtxSetCurrent(context_), CUDA_SUCCESS); }
  static CUstream NewStream();
  static CUdeviceptr NewWord();
  static uint64_t ReadWord(CUdeviceptr word);
  // Writes, and later checks, the block's two ends; what is wrong is added to *bad.
  void Fill(CUdeviceptr va, uint64_t bytes, uint64_t seed, CUstream stream) const;
  void Check(CUdeviceptr va, uint64_t bytes, uint64_t seed, CUdeviceptr bad, CUstream stream) const;
  // `after` waits for what `before` has now.
  static void Order(CUstream after, CUstream before);

  Driver driver_;
  SimSource source_;
  CUcontext context_ = nullptr;
  CUfunction fill_ = nullptr;
  CUfunction verify_ = nullptr;
};

}  // namespace gpuroom
