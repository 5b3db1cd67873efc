// Moving memory between tiers, as the program asks.
#include <algorithm>
#include <exception>

#include "capi/answer.h"
#include "capi/sized.h"
#include "driver/device_context.h"
#include "runtime/displace.h"

namespace gpuroom {
namespace {

using MoveList = SizedList<gpuroom_move>;

bool IsTier(int tier) { return tier >= GPUROOM_TIER_DEVICE && tier <= GPUROOM_TIER_HOST; }

// Whose memory of that tier a device uses: the first that it has.
bool FindPlace(const DeviceState& device, Tier tier, int* place) {
  for (const TierState& state : device.source.States()) {
    if (state.tier != tier) continue;
    *place = state.place;
    return true;
  }
  return false;
}

// The part of `placed`, which is mapped at `va`, that a move means.
Part MakePart(const gpuroom_move& move, Placed* placed, CUdeviceptr va, Tier tier, int place) {
  Part part;
  part.placed = placed;
  part.tier = tier;
  part.place = place;
  const uint64_t begin = move.bytes == 0 ? 0 : move.address - va;
  const uint64_t end = move.bytes == 0 ? UINT64_MAX : begin + move.bytes;
  const std::vector<Chunk>& chunks = placed->chunks;
  uint64_t at = 0;
  while (part.first < chunks.size() && at + chunks[part.first].bytes <= begin)
    at += chunks[part.first++].bytes;
  part.end = part.first;
  while (part.end < chunks.size() && at < end) at += chunks[part.end++].bytes;
  return part;
}

// The parts of a batch that concern one device, in the order that Mover wants.
class DeviceBatch {
 public:
  DeviceBatch(Runtime& rt, DeviceState& device) : rt_(rt), device_(device) {}

  void Run(const MoveList& moves) {
    rt_.memory.WithIndex(device_.tier.device(), [&](PlacedIndex& index) {
      for (size_t i = 0; i < moves.size(); ++i) {
        if (moves[i].result == GPUROOM_NOT_FOUND) Add(&index, &moves[i]);
      }
      Sort();
      static_cast<void>(MoveParts(rt_, device_, &parts_).ok());  // each part has its own
      for (size_t i = 0; i < parts_.size(); ++i) Report(parts_[i], owners_[i]);
    });
  }

 private:
  void Add(PlacedIndex* index, gpuroom_move* move) {
    const auto [placed, va] = rt_.memory.PlacedAt(move->address);
    if (placed == nullptr || placed->shared || placed->device != device_.tier.device()) return;
    const Tier tier = static_cast<Tier>(move->tier);
    int place = 0;
    move->result = GPUROOM_OK;
    if (!placed->awake()) {
      move->result = Answer(Status(Code::kBusy, "the memory is asleep; wake it first"));
    } else if (!Movable(*placed)) {
      move->result =
          Answer(Status(Code::kBusy, "the memory is shared or registered elsewhere and stays where it is"));
    } else if (!FindPlace(device_, tier, &place)) {
      move->result = Answer(Status(Code::kUnsupported, "there is no such tier; name peers with --peers"));
    } else {
      parts_.push_back(MakePart(*move, placed, va, tier, place));
      NoteWish(parts_.back());
      index->Update(placed);
      owners_.push_back(move);
    }
  }

  // Whether the allocation comes to HBM by itself later. The last move of any part decides, with one
  // exception: a part that is moved to HBM says nothing of the others, which may have been sent to the host.
  static void NoteWish(const Part& part) {
    const bool whole = part.first == 0 && part.end == part.placed->chunks.size();
    if (part.tier != Tier::kDevice)
      part.placed->wants_device = false;
    else if (whole)
      part.placed->wants_device = true;
  }

  // Parts of one Placed in address order, and without what an earlier one covers.
  void Sort() {
    std::vector<size_t> order(parts_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return parts_[a].placed != parts_[b].placed ? parts_[a].placed < parts_[b].placed
                                                  : parts_[a].first < parts_[b].first;
    });
    std::vector<Part> parts;
    std::vector<gpuroom_move*> owners;
    for (const size_t i : order) {
      Part part = parts_[i];
      if (!parts.empty() && parts.back().placed == part.placed)
        part.first = std::max(part.first, parts.back().end);
      part.end = std::max(part.end, part.first);
      parts.push_back(part);
      owners.push_back(owners_[i]);
    }
    parts_.swap(parts);
    owners_.swap(owners);
  }

  static void Report(const Part& part, gpuroom_move* move) {
    move->moved = part.moved;
    if (!part.status.ok()) move->result = Answer(part.status);
  }

  Runtime& rt_;
  DeviceState& device_;
  std::vector<Part> parts_;
  std::vector<gpuroom_move*> owners_;
};

Status Prefetch(Runtime& rt, const ManagedBlock& block, CUdeviceptr address, uint64_t bytes, int tier,
                CUstream stream) {
  if (tier != GPUROOM_TIER_DEVICE && tier != GPUROOM_TIER_HOST)
    return Status(Code::kInvalidArgument, "managed memory can be prefetched to the device and to the host");
  if (rt.driver.MemPrefetchAsync == nullptr) return Status(Code::kUnsupported, "this driver cannot prefetch");
  const CUdeviceptr from = bytes == 0 ? block.va : address;
  const uint64_t count =
      bytes == 0 ? block.bytes : std::min<uint64_t>(bytes, block.va + block.bytes - address);
  CUmemLocation where{};
  where.type = tier == GPUROOM_TIER_HOST ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE;
  where.id = tier == GPUROOM_TIER_HOST ? 0 : block.device;
  const auto prefetch = [&] {
    return DriverStatus(rt.driver.MemPrefetchAsync(from, count, where, 0, stream), "cuMemPrefetchAsync");
  };
  if (stream != nullptr) return prefetch();
  // The default stream is that of the current context: of whichever device, or of none.
  const OnDevice here(rt.driver, block.device);
  return here.status().ok() ? prefetch() : here.status();
}

gpuroom_result Migrate(Runtime& rt, const MoveList& moves) {
  const Standstill standstill(rt);
  if (!standstill.status().ok()) return Answer(standstill.status());
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    if (DeviceState* device = rt.ExistingDevice(i)) DeviceBatch(rt, *device).Run(moves);
  }
  for (size_t i = 0; i < moves.size(); ++i) {
    if (moves[i].result == GPUROOM_OK) continue;
    if (moves[i].result == GPUROOM_NOT_FOUND) return Answer(Status(Code::kNotFound, kNothingThere));
    return static_cast<gpuroom_result>(moves[i].result);
  }
  return GPUROOM_OK;
}

}  // namespace
}  // namespace gpuroom

using namespace gpuroom;

extern "C" {
#pragma GCC visibility push(default)

int gpuroom_migrate_batch(gpuroom_move* moves, size_t count, size_t bytes) try {
  Entry rt;
  ClearError();
  const MoveList list(moves, count, bytes);
  if (const Status status = list.Check(); !status.ok()) return Answer(status);
  for (size_t i = 0; i < count; ++i) {
    list[i].moved = 0;
    list[i].result = GPUROOM_NOT_FOUND;
    if (!IsTier(list[i].tier)) return Answer(Status(Code::kInvalidArgument, "tier must be a gpuroom_tier"));
  }
  if (!rt) return Answer(Status(Code::kUnsupported, kNotHere));
  return count == 0 ? GPUROOM_OK : Migrate(*rt, list);
} catch (const std::exception& error) {
  return AnswerException(error);
}

int gpuroom_range_migrate(uint64_t address, uint64_t bytes, int tier) try {
  gpuroom_move move = {address, bytes, tier, GPUROOM_OK, 0};
  return gpuroom_migrate_batch(&move, 1, sizeof move);
} catch (const std::exception& error) {
  return AnswerException(error);
}

int gpuroom_prefetch(uint64_t address, uint64_t bytes, int tier, void* stream) try {
  ClearError();
  if (const Entry rt; rt) {
    ManagedBlock block;
    if (rt->managed.Find(address, &block))
      return Answer(Prefetch(*rt, block, address, bytes, tier, static_cast<CUstream>(stream)));
  }
  return gpuroom_range_migrate(address, bytes, tier);
} catch (const std::exception& error) {
  return AnswerException(error);
}

#pragma GCC visibility pop
}  // extern "C"
