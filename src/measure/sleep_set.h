// SleepSet: the allocations of one case, filled, and the ways to put them to sleep.
#pragma once

#include <memory>
#include <vector>

#include "measure/machine.h"
#include "range/asleep.h"

namespace gpuroom::measure {

class SleepSet {
 public:
  explicit SleepSet(Machine& machine) : machine_(machine) {}
  ~SleepSet();
  SleepSet(const SleepSet&) = delete;
  SleepSet& operator=(const SleepSet&) = delete;

  // Makes `count` allocations in HBM, of `bytes` together and as alike as whole granules allow, and
  // fills them.
  Status Make(uint64_t count, uint64_t bytes);
  uint64_t bytes() const { return bytes_; }

  // By the engine. Seconds.
  Result<double> Sleep(SleepAction action, const char* directory);
  Result<double> Wake(bool lazy);
  // By one synchronous copy per allocation into fresh pinned memory. Seconds.
  Result<double> CopyOut();
  Result<double> CopyBack();

  // Moves what a lazy wake left on the host to HBM.
  Status BringBack();
  Status Check();
  Status CheckFirst();
  uint64_t BytesOnHost() const;

  // Sees to it that host chunks for all of it are kept, or that none are.
  Status CreateAhead();
  void DropAhead();

 private:
  Status MakeOne(uint64_t bytes);
  Result<double> TimedEach(Status (SleepSet::*copy)(size_t));
  Status CopyOutOne(size_t i);
  Status CopyBackOne(size_t i);
  Target TargetOf(size_t i) const { return {ranges_[i]->va, ranges_[i]->bytes, nullptr}; }

  Machine& machine_;
  uint64_t bytes_ = 0;
  std::vector<std::unique_ptr<Range>> ranges_;
  std::vector<void*> pinned_;  // by range; null: none
};

}  // namespace gpuroom::measure
