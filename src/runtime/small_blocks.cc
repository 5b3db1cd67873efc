#include "runtime/small_blocks.h"

#include "base/no_memory.h"
#include "base/undo.h"
#include "pool/pool.h"
#include "runtime/allocate.h"

namespace gpuroom {

// The shared ranges of one device and context, and the pool that cuts them. A block goes back to the pool
// when the GPU is done with it, so the pool never has to wait: all blocks are of the legacy stream.
//
// Where the host has no memory for the pool's own records, the pool may no longer know all that it has. Then
// it is asked for nothing more, and all ranges go back with the last block.
class SharedRanges : private SegmentSource {
 public:
  SharedRanges(Runtime& rt, DeviceState& device, CUcontext context)
      : rt_(rt), device_(device), context_(context), pool_(rt.driver, *this, Options()) {}

  Result<CUdeviceptr> Allocate(uint64_t bytes) {
    const uint64_t used = used_.fetch_add(bytes) + bytes;
    Result<CUdeviceptr> va = Status(Code::kOutOfMemory, "no memory for a small block");
    if (!broken_) Try([&] { va = pool_.Allocate(bytes, nullptr); });
    if (va.ok()) {
      if (used / 2 > trim_at_) trim_at_ = used / 2;
    } else if (used_.fetch_sub(bytes) == bytes && broken_) {
      if (const Captures::Quiet quiet(rt_.captures); quiet) Dispose();
    }
    return va;
  }

  // Trims each time that half of what was in use is free, so that a free costs the same however many blocks
  // there are.
  void GiveBack(CUdeviceptr va, uint64_t bytes) {
    if (!ended_ && !broken_) Try([&] { (void)pool_.Free(va, nullptr); });
    const uint64_t used = used_.fetch_sub(bytes) - bytes;
    if (used > trim_at_) return;
    trim_at_ = used / 2;
    Trim();
  }

  // Bytes that were given back.
  uint64_t Trim() {
    ++trimming_;
    uint64_t bytes = 0;
    if (!ended_ && !broken_) Try([&] { bytes = pool_.Trim(); });
    --trimming_;
    if (broken_ && used_ == 0) Dispose();
    return bytes;
  }

  // The ranges are gone.
  void End() { ended_ = true; }
  bool ended() const { return ended_; }

  DeviceState& device() const { return device_; }
  CUcontext context() const { return context_; }

 private:
  PoolOptions Options() {
    PoolOptions options;
    options.synchronize = [this] { return MayReturn(); };
    return options;
  }

  template <typename Step>
  void Try(Step step) {
    const Status status = OrNoMemory([&] {
      step();
      return Status();
    });
    if (!status.ok()) broken_ = true;
  }

  // Takes no memory of the process's.
  void Dispose() {
    while (std::unique_ptr<Range> range = rt_.ranges.TakeShared(device_.tier.device(), context_))
      device_.builder.Discard(std::move(range));
    ended_ = true;
  }

  // Only Trim is called where nothing is captured.
  Status MayReturn() const {
    return trimming_ > 0 || ended_ ? Status() : Status(Code::kBusy, "a CUDA graph may be being captured");
  }

  Result<CUdeviceptr> Create(uint64_t bytes, CUstream, Where where) override {
    if (where == Where::kResident) return Status(Code::kOutOfMemory, "HBM has no room for small allocations");
    CUdeviceptr va = 0;
    const Status status = OrNoMemory([&] { return CreateRange(bytes, &va); });
    if (!status.ok()) return status;
    return va;
  }

  Status CreateRange(uint64_t bytes, CUdeviceptr* va) {
    RangeRequest request;
    request.bytes = bytes;
    request.context = context_;
    request.plan.policy = rt_.options.policy;
    request.plan.resident = true;
    Result<std::unique_ptr<Range>> range = device_.builder.Build(request);
    if (!range.ok()) return range.status();
    (*range)->shared = true;
    *va = Publish(rt_, device_, std::move(*range));
    return Status();
  }

  Status Destroy(CUdeviceptr va) override {
    if (ended_) return Status();
    if (trimming_ > 0) return DestroyRange(va);
    // One that the pool could make no record of, and then forgets.
    const Captures::Quiet quiet(rt_.captures);
    const Status status = quiet ? DestroyRange(va) : Status(Code::kBusy, "a CUDA graph is being captured");
    if (!status.ok()) broken_ = true;
    return status;
  }

  Status DestroyRange(CUdeviceptr va) {
    std::unique_ptr<Range> range = rt_.ranges.TakeWhole(va);
    if (range == nullptr) return Status();
    const Status status = device_.builder.Unmap(*range);
    if (status.ok()) {
      device_.builder.Discard(std::move(range));
    } else {
      rt_.ranges.Insert(std::move(range));
    }
    return status;
  }

  Runtime& rt_;
  DeviceState& device_;
  const CUcontext context_;
  std::atomic<uint64_t> used_{0};     // bytes of blocks
  std::atomic<uint64_t> trim_at_{0};  // of used_
  std::atomic<int> trimming_{0};      // threads in Trim
  std::atomic<bool> broken_{false};
  std::atomic<bool> ended_{false};
  Pool pool_;  // last: its end calls Destroy
};

CUcontext SmallBlock::context() const { return ranges->context(); }

DeviceState& SmallBlock::device() const { return ranges->device(); }

std::shared_ptr<SharedRanges> SmallBlocks::RangesOf(DeviceState& device, CUcontext context) {
  MutexLock lock(mutex_);
  std::shared_ptr<SharedRanges>& ranges = ranges_[{device.tier.device(), context}];
  if (ranges == nullptr || ranges->ended()) ranges = std::make_shared<SharedRanges>(rt_, device, context);
  return ranges;
}

Result<CUdeviceptr> SmallBlocks::Allocate(DeviceState& device, CUcontext context, uint64_t bytes) {
  SmallBlock block{0, bytes, RangesOf(device, context)};
  const Result<CUdeviceptr> va = block.ranges->Allocate(bytes);
  if (!va.ok()) return va;
  block.va = *va;
  Undo give_back([&] { GiveBack(block); });
  Restore(block);
  give_back.Dismiss();
  return va;
}

bool SmallBlocks::Take(CUdeviceptr va, SmallBlock* out) {
  if (count_.load(std::memory_order_relaxed) == 0) return false;
  MutexLock lock(mutex_);
  const Blocks::node_type taken = blocks_.extract(va);
  if (taken.empty()) return false;
  *out = taken.mapped();
  count_ = blocks_.size();
  return true;
}

void SmallBlocks::Restore(const SmallBlock& block) {
  MutexLock lock(mutex_);
  blocks_[block.va] = block;
  count_ = blocks_.size();
}

void SmallBlocks::GiveBack(const SmallBlock& block) { block.ranges->GiveBack(block.va, block.bytes); }

bool SmallBlocks::Trim() {
  std::vector<std::shared_ptr<SharedRanges>> all;
  {
    MutexLock lock(mutex_);
    for (const auto& [place, ranges] : ranges_) all.push_back(ranges);
  }
  uint64_t bytes = 0;
  for (const std::shared_ptr<SharedRanges>& ranges : all) bytes += ranges->Trim();
  return bytes > 0;
}

bool SmallBlocks::Narrow(CUdeviceptr address, RangeInfo* range) const {
  MutexLock lock(mutex_);
  auto found = blocks_.upper_bound(address);
  if (found == blocks_.begin()) return false;
  const SmallBlock& block = (--found)->second;
  if (address - block.va >= block.bytes) return false;
  range->va = block.va;
  range->bytes = range->requested = block.bytes;
  // A shared range is one chunk.
  range->host_bytes = range->host_bytes > 0 ? block.bytes : 0;
  range->peer_bytes = range->peer_bytes > 0 ? block.bytes : 0;
  return true;
}

void SmallBlocks::Forget(CUcontext context) {
  ForgetIf([context](const Place& place) { return place.second == context; });
}

void SmallBlocks::Forget(CUdevice device) {
  ForgetIf([device](const Place& place) { return place.first == device; });
}

template <typename Which>
void SmallBlocks::ForgetIf(Which which) {
  std::vector<std::shared_ptr<SharedRanges>> ended;  // without the lock
  MutexLock lock(mutex_);
  for (auto next = ranges_.begin(); next != ranges_.end();) {
    if (which(next->first)) {
      next->second->End();
      ended.push_back(std::move(next->second));
      next = ranges_.erase(next);
    } else {
      ++next;
    }
  }
  std::erase_if(blocks_, [](const auto& entry) { return entry.second.ranges->ended(); });
  count_ = blocks_.size();
}

}  // namespace gpuroom
