// Operations that take memory and give it back.
#include <algorithm>

#include "walker.h"

namespace gpuroom::soak {

using shim_test::Cu;

namespace {

constexpr uint64_t kLarge = 4 * kMiB;  // GPUROOM_RANGE_THRESHOLD: from here on a range
constexpr uint64_t kAliasBytes = 16 * kMiB;

}  // namespace

Block* Walker::Add(CUdeviceptr p, uint64_t bytes, Origin origin, size_t stream) {
  auto block = std::make_unique<Block>();
  block->p = p;
  block->bytes = bytes;
  block->origin = origin;
  block->stream = stream;
  block->cells = MakeCells(bytes, random_);
  blocks_.push_back(std::move(block));
  Trace(origin == Origin::kMapped  ? "map"
        : origin == Origin::kAlloc ? "alloc"
                                   : "alloc async",
        *blocks_.back());
  if (!capturing_ && Chance(70)) FillSome(*blocks_.back());
  return blocks_.back().get();
}

void Walker::FillSome(Block& block) {
  for (Cell& cell : block.cells) {
    const unsigned how = static_cast<unsigned>(Random(3));
    if (cell.bytes > 0) WriteCell(block, cell, NewPattern(how), how);
  }
}

Outcome Walker::Allocate(uint64_t bytes) {
  CUdeviceptr p = 0;
  const Outcome outcome = Full(Cu().MemAlloc(&p, bytes), "cuMemAlloc");
  if (outcome == Outcome::kDone) Add(p, bytes, Origin::kAlloc, Random(streams_.size()));
  return outcome;
}

Outcome Walker::AllocLarge() {
  const uint64_t bytes = kLarge + Random(12 * kMiB);
  return Allocate(Chance(50) ? bytes / kMiB * kMiB : bytes);
}

Outcome Walker::AllocSmall() { return Allocate(Chance(60) ? 8 + Random(64 * kKiB) : 1 + Random(kLarge - 1)); }

Outcome Walker::AllocAsync() {
  const uint64_t bytes = 8 + Random(Chance(50) ? 64 * kKiB : 10 * kMiB);
  const size_t stream = Random(streams_.size());
  CUdeviceptr p = 0;
  const Outcome outcome = Full(Cu().MemAllocAsync(&p, bytes, streams_[stream]), "cuMemAllocAsync");
  if (outcome == Outcome::kDone) Add(p, bytes, Origin::kAllocAsync, stream);
  return outcome;
}

void Walker::Forget(Block* block) {
  Trace("forget", *block);
  const auto is = [block](const std::unique_ptr<Block>& held) { return held.get() == block; };
  blocks_.erase(std::find_if(blocks_.begin(), blocks_.end(), is));
}

// What fails leaves the block as it was.
Outcome Walker::FreeBlock(Block* block) {
  DropGraphsOf(block);
  if (block->origin == Origin::kMapped) return FreeMapped(block);
  Trace("free", *block);
  // cuMemFree waits for the work that is still to come, but not with what cuMemAllocAsync gave.
  const bool in_stream = block->origin == Origin::kAllocAsync && Chance(80);
  if (block->origin == Origin::kAllocAsync && !in_stream) Synchronize(block->stream);
  const CUresult result =
      in_stream ? Cu().MemFreeAsync(block->p, streams_[block->stream]) : Cu().MemFree(block->p);
  if (!Ok(result, in_stream ? "cuMemFreeAsync" : "cuMemFree")) return Outcome::kFailed;
  Forget(block);
  return Outcome::kDone;
}

Outcome Walker::Free() {
  Block* block = PickIf([](const Block& any) { return any.origin != Origin::kMapped; });
  return block == nullptr ? Outcome::kIdle : FreeBlock(block);
}

void Walker::Reserve() {
  const auto reserve = [this](CUdeviceptr* va, uint64_t bytes) {
    Insist([&] { return Cu().MemAddressReserve(va, bytes, 0, 0, 0); }, "cuMemAddressReserve");
  };
  // Below the threshold, at it, and larger than a chunk of HBM.
  for (const uint64_t slot : {2 * kMiB, 4 * kMiB, 10 * kMiB}) {
    Segment segment{0, slot, std::vector<Block*>(slot > 4 * kMiB ? 3 : 6)};
    reserve(&segment.va, slot * segment.slots.size());
    segments_.push_back(std::move(segment));
  }
  reserve(&alias_va_, kAliasBytes);
}

void Walker::GiveBackSegments() {
  for (const Segment& segment : segments_) {
    Insist([&] { return Cu().MemAddressFree(segment.va, segment.slot_bytes * segment.slots.size()); },
           "cuMemAddressFree");
  }
  Insist([&] { return Cu().MemAddressFree(alias_va_, kAliasBytes); }, "cuMemAddressFree");
}

void Walker::Unmap(CUdeviceptr va, uint64_t bytes) {
  Insist([&] { return Cu().MemUnmap(va, bytes); }, "cuMemUnmap");
}

// As PyTorch does: create, map, give access; what fails is undone.
Outcome Walker::MapIn(Segment& segment, size_t slot) {
  const CUmemAllocationProp prop = shim_test::DeviceMemory(device_);
  const CUmemAccessDesc access = shim_test::DeviceAccess(device_);
  const CUdeviceptr va = segment.va + slot * segment.slot_bytes;
  CUmemGenericAllocationHandle handle = 0;
  const Outcome created = Full(Cu().MemCreate(&handle, segment.slot_bytes, &prop, 0), "cuMemCreate");
  if (created != Outcome::kDone) return created;
  const auto release = [&] { Insist([&] { return Cu().MemRelease(handle); }, "cuMemRelease"); };
  Outcome outcome = Full(Cu().MemMap(va, segment.slot_bytes, 0, handle, 0), "cuMemMap");
  if (outcome == Outcome::kDone) {
    outcome = Full(Cu().MemSetAccess(va, segment.slot_bytes, &access, 1), "cuMemSetAccess");
    if (outcome != Outcome::kDone) Unmap(va, segment.slot_bytes);
  }
  if (outcome != Outcome::kDone) {
    release();
    return outcome;
  }
  Block* block = Add(va, segment.slot_bytes, Origin::kMapped, Random(streams_.size()));
  segment.slots[slot] = block;
  block->handle = handle;
  if (Chance(30)) {  // the mapping keeps the memory
    release();
    block->handle = 0;
  }
  return outcome;
}

Outcome Walker::MapSlot() {
  Segment& segment = segments_[Random(segments_.size())];
  const size_t slot = Random(segment.slots.size());
  return segment.slots[slot] == nullptr ? MapIn(segment, slot) : Outcome::kIdle;
}

Outcome Walker::FreeMapped(Block* block) {
  Synchronize(block->stream);  // unmapping waits for nothing
  if (aliased_ == block) {
    if (!Ok(Cu().MemUnmap(alias_va_, block->bytes), "cuMemUnmap")) return Outcome::kFailed;
    aliased_ = nullptr;
    block->alias = 0;
  }
  if (!Ok(Cu().MemUnmap(block->p, block->bytes), "cuMemUnmap")) return Outcome::kFailed;
  if (block->handle != 0) Insist([&] { return Cu().MemRelease(block->handle); }, "cuMemRelease");
  for (Segment& segment : segments_)
    std::replace(segment.slots.begin(), segment.slots.end(), block, static_cast<Block*>(nullptr));
  Forget(block);
  return Outcome::kDone;
}

Outcome Walker::UnmapSlot() {
  Block* block = PickIf([](const Block& any) { return any.origin == Origin::kMapped; });
  if (block == nullptr) return Outcome::kIdle;
  DropGraphsOf(block);
  return FreeMapped(block);
}

// Maps a block a second time, or takes that away.
Outcome Walker::MapAlias() {
  if (aliased_ != nullptr) {
    Synchronize(aliased_->stream);
    if (!Ok(Cu().MemUnmap(alias_va_, aliased_->bytes), "cuMemUnmap")) return Outcome::kFailed;
    aliased_->alias = 0;
    aliased_ = nullptr;
    return Outcome::kDone;
  }
  Block* block = PickIf([](const Block& any) { return any.origin == Origin::kMapped; });
  if (block == nullptr) return Outcome::kIdle;
  CUmemGenericAllocationHandle handle = 0;
  if (!Ok(Cu().MemRetainAllocationHandle(&handle, reinterpret_cast<void*>(block->p)),
          "cuMemRetainAllocationHandle")) {
    return Outcome::kFailed;
  }
  const CUmemAccessDesc access = shim_test::DeviceAccess(device_);
  Outcome outcome = Full(Cu().MemMap(alias_va_, block->bytes, 0, handle, 0), "cuMemMap");
  if (outcome == Outcome::kDone) {
    outcome = Full(Cu().MemSetAccess(alias_va_, block->bytes, &access, 1), "cuMemSetAccess");
    if (outcome != Outcome::kDone) Unmap(alias_va_, block->bytes);
  }
  Insist([&] { return Cu().MemRelease(handle); }, "cuMemRelease");
  if (outcome != Outcome::kDone) return outcome;
  aliased_ = block;
  block->alias = alias_va_;
  return outcome;
}

// Gives a block to whoever comes next, or takes one.
Outcome Walker::Exchange() {
  const uint64_t device = static_cast<uint64_t>(device_);
  if (Chance(50)) {
    std::unique_ptr<Block> block = shared_.mailbox.Take(device);
    if (block == nullptr) return Outcome::kIdle;
    block->stream = Random(streams_.size());
    blocks_.push_back(std::move(block));
    return Outcome::kDone;
  }
  Block* block = PickIf([](const Block& any) { return any.origin != Origin::kMapped; });
  if (block == nullptr) return Outcome::kIdle;
  DropGraphsOf(block);
  Synchronize(block->stream);
  const auto is = [block](const std::unique_ptr<Block>& held) { return held.get() == block; };
  const auto held = std::find_if(blocks_.begin(), blocks_.end(), is);
  shared_.mailbox.Put(std::move(*held), device);
  blocks_.erase(held);
  return Outcome::kDone;
}

}  // namespace gpuroom::soak
