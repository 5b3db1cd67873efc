// The C interface by which a program says where its memory is to lie.
#include <algorithm>

#include "headroom/headroom.h"
#include "runtime/displace.h"
#include "runtime/intent.h"

namespace headroom {
namespace {

__attribute__((tls_model("initial-exec"))) thread_local const char* t_error = "";

headroom_result ResultOf(Code code) {
  switch (code) {
    case Code::kOk: return HEADROOM_OK;
    case Code::kOutOfMemory: return HEADROOM_OUT_OF_MEMORY;
    case Code::kInvalidArgument: return HEADROOM_INVALID_ARGUMENT;
    case Code::kNotFound: return HEADROOM_NOT_FOUND;
    case Code::kUnsupported: return HEADROOM_UNSUPPORTED;
    case Code::kBusy: return HEADROOM_BUSY;
    case Code::kDriver:
    case Code::kSystem: break;
  }
  return HEADROOM_FAILED;
}

headroom_result Answer(const Status& status) {
  t_error = status.what();
  return ResultOf(status.code());
}

// Where a move's address leads to.
struct Target {
  Placed* placed = nullptr;
  CUdeviceptr va = 0;
};

Target FindTarget(const std::vector<Placed*>& all, CUdeviceptr address) {
  for (Placed* placed : all) {
    const uint64_t bytes = BytesOf(placed->chunks);
    for (const Window& window : placed->windows) {
      if (address - window.va < bytes) return {placed, window.va};
    }
  }
  return {};
}

bool IsTier(int tier) { return tier >= HEADROOM_TIER_DEVICE && tier <= HEADROOM_TIER_HOST; }
bool IsHint(int hint) { return hint >= HEADROOM_HINT_NONE && hint <= HEADROOM_HINT_STREAM; }

// Whose memory of that tier a device uses: the first that it has.
bool FindPlace(const DeviceState& device, Tier tier, int* place) {
  for (const TierState& state : device.source.States()) {
    if (state.tier != tier) continue;
    *place = state.place;
    return true;
  }
  return false;
}

Part MakePart(const headroom_move& move, const Target& target, Tier tier, int place) {
  Part part;
  part.placed = target.placed;
  part.tier = tier;
  part.place = place;
  const uint64_t begin = move.bytes == 0 ? 0 : move.address - target.va;
  const uint64_t end = move.bytes == 0 ? UINT64_MAX : begin + move.bytes;
  const std::vector<Chunk>& chunks = target.placed->chunks;
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

  void Run(headroom_move* moves, size_t count) {
    WithPlacedOf(rt_, device_.tier.device(), [&](const std::vector<Placed*>& all) {
      for (size_t i = 0; i < count; ++i) {
        if (moves[i].result == HEADROOM_NOT_FOUND) Add(all, &moves[i]);
      }
      Sort();
      static_cast<void>(MoveParts(rt_, device_, &parts_).ok());  // each part has its own
      for (size_t i = 0; i < parts_.size(); ++i) Report(parts_[i], owners_[i]);
    });
  }

 private:
  void Add(const std::vector<Placed*>& all, headroom_move* move) {
    const Target target = FindTarget(all, move->address);
    if (target.placed == nullptr) return;
    const Tier tier = static_cast<Tier>(move->tier);
    int place = 0;
    move->result = HEADROOM_OK;
    if (!Movable(*target.placed)) {
      move->result =
          Answer(Status(Code::kBusy, "the memory is shared or registered elsewhere and stays where it is"));
    } else if (!FindPlace(device_, tier, &place)) {
      move->result = Answer(Status(Code::kUnsupported, "there is no such tier; name peers with --peers"));
    } else {
      target.placed->wants_device = tier == Tier::kDevice;
      parts_.push_back(MakePart(*move, target, tier, place));
      owners_.push_back(move);
    }
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
    std::vector<headroom_move*> owners;
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

  static void Report(const Part& part, headroom_move* move) {
    move->moved = part.moved;
    if (!part.status.ok()) move->result = Answer(part.status);
  }

  Runtime& rt_;
  DeviceState& device_;
  std::vector<Part> parts_;
  std::vector<headroom_move*> owners_;
};

headroom_result Migrate(Runtime& rt, headroom_move* moves, size_t count) {
  const Standstill standstill(rt);
  if (!standstill.status().ok()) return Answer(standstill.status());
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    if (DeviceState* device = rt.ExistingDevice(i)) DeviceBatch(rt, *device).Run(moves, count);
  }
  for (size_t i = 0; i < count; ++i) {
    if (moves[i].result == HEADROOM_OK) continue;
    if (moves[i].result == HEADROOM_NOT_FOUND) t_error = "headroom has placed nothing at that address";
    return static_cast<headroom_result>(moves[i].result);
  }
  return HEADROOM_OK;
}

}  // namespace
}  // namespace headroom

using namespace headroom;

extern "C" {
#pragma GCC visibility push(default)

int headroom_migrate_batch(headroom_move* moves, size_t count) {
  Entry rt;
  t_error = "";
  if (moves == nullptr && count > 0)
    return Answer(Status(Code::kInvalidArgument, "the list of moves is null"));
  for (size_t i = 0; i < count; ++i) {
    moves[i].moved = 0;
    moves[i].result = HEADROOM_NOT_FOUND;
    if (!IsTier(moves[i].tier)) return Answer(Status(Code::kInvalidArgument, "tier must be a headroom_tier"));
  }
  if (!rt) return Answer(Status(Code::kUnsupported, "this process does not run under headroom run"));
  return count == 0 ? HEADROOM_OK : Migrate(*rt, moves, count);
}

int headroom_range_migrate(uint64_t address, uint64_t bytes, int tier) {
  headroom_move move = {address, bytes, tier, HEADROOM_OK, 0};
  return headroom_migrate_batch(&move, 1);
}

int headroom_set_hint(uint64_t address, int hint) {
  Entry rt;
  t_error = "";
  if (!IsHint(hint)) return Answer(Status(Code::kInvalidArgument, "hint must be a headroom_hint"));
  if (!rt) return Answer(Status(Code::kUnsupported, "this process does not run under headroom run"));
  bool found = false;
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    if (rt->ExistingDevice(i) == nullptr) continue;
    WithPlacedOf(*rt, i, [&](const std::vector<Placed*>& all) {
      const Target target = FindTarget(all, address);
      if (target.placed == nullptr) return;
      found = true;
      target.placed->hint = static_cast<Hint>(hint);
      target.placed->wants_device = hint == HEADROOM_HINT_HOT || hint == HEADROOM_HINT_NONE;
    });
  }
  return found ? HEADROOM_OK : Answer(Status(Code::kNotFound, "headroom has placed nothing at that address"));
}

int headroom_set_thread_hint(int hint, const char* tag) {
  t_error = "";
  if (!IsHint(hint)) return Answer(Status(Code::kInvalidArgument, "hint must be a headroom_hint"));
  SetThreadHint(static_cast<Hint>(hint), tag);
  return HEADROOM_OK;
}

const char* headroom_last_error(void) { return t_error; }

#pragma GCC visibility pop
}  // extern "C"
