// Operations that move memory between tiers, say how it will be used, or ask where it is.
#include "walker.h"

namespace gpuroom::soak {

using shim_test::Cu;

// What a call of the library's that moves or marks may give.
Outcome Walker::Judge(int result) {
  switch (result) {
    case GPUROOM_OK: return Outcome::kDone;
    case GPUROOM_OUT_OF_MEMORY: return Outcome::kNoMemory;
    case GPUROOM_NOT_FOUND: return Outcome::kIdle;  // small: the driver's own
    case GPUROOM_UNSUPPORTED: return Outcome::kUnsupported;
    case GPUROOM_BUSY: return Outcome::kBusy;
    case GPUROOM_FAILED:
      if (MayFail()) return Outcome::kFailed;
      break;
    default: break;
  }
  Fail("the library gave " + std::to_string(result) + ": " + shared_.library.last_error());
}

// After a move of all of a block that was reported done. Others' requests may have moved it on.
void Walker::CheckPlace(const Block& block, int tier) {
  gpuroom_placement place = {};
  if (shared_.settings.threads > 1 || shared_.library.describe(block.p, &place, sizeof place) != 0) return;
  const uint64_t there = tier == GPUROOM_TIER_HOST   ? place.host_bytes
                         : tier == GPUROOM_TIER_PEER ? place.peer_bytes
                                                     : place.device_bytes;
  if (there != place.bytes) {
    Fail("of " + std::to_string(place.bytes) + " bytes only " + std::to_string(there) + " lie in tier " +
         std::to_string(tier) + " after a move to it");
  }
}

Outcome Walker::MigrateOne() {
  Block* block = PickIf([](const Block& any) { return any.bytes >= 4 * kMiB; });
  if (block == nullptr) return Outcome::kIdle;
  if (shared_.library.range_migrate == nullptr) return Outcome::kUnsupported;
  const bool peer = shared_.settings.devices > 1 && Chance(30);
  const int tier = peer ? GPUROOM_TIER_PEER : Chance(50) ? GPUROOM_TIER_HOST : GPUROOM_TIER_DEVICE;
  const bool whole = Chance(50);
  const uint64_t from = whole ? 0 : Random(block->bytes);
  const uint64_t bytes = whole ? 0 : 1 + Random(block->bytes - from);
  block->host_bytes = ~uint64_t{0};
  const Outcome outcome = Judge(shared_.library.range_migrate(block->p + from, bytes, tier));
  if (outcome != Outcome::kDone) return outcome;
  shared_.migrated.fetch_add(whole ? block->bytes : bytes);
  if (whole) CheckPlace(*block, tier);
  return outcome;
}

Outcome Walker::MigrateBatch() {
  if (blocks_.empty()) return Outcome::kIdle;
  if (shared_.library.migrate_batch == nullptr) return Outcome::kUnsupported;
  std::vector<gpuroom_move> moves(1 + Random(6));
  for (gpuroom_move& move : moves) {
    Block* block = Pick();
    block->host_bytes = ~uint64_t{0};
    const uint64_t from = Chance(50) ? 0 : Random(block->bytes);
    move = {block->p + from, Chance(50) ? 0 : 1 + Random(block->bytes - from),
            Chance(50) ? GPUROOM_TIER_HOST : GPUROOM_TIER_DEVICE, -1, 0};
  }
  const Outcome outcome = Judge(shared_.library.migrate_batch(moves.data(), moves.size(), sizeof moves[0]));
  if (outcome == Outcome::kBusy || outcome == Outcome::kUnsupported) return outcome;
  bool all_right = true;
  for (const gpuroom_move& move : moves) {
    all_right = all_right && Judge(move.result) == Outcome::kDone;
    shared_.migrated.fetch_add(move.moved);
  }
  if (all_right != (outcome == Outcome::kDone)) Fail("a batch's result differs from those of its moves");
  return outcome;
}

Outcome Walker::SetHint() {
  Block* block = Pick();
  if (block == nullptr) return Outcome::kIdle;
  if (shared_.library.set_hint == nullptr) return Outcome::kUnsupported;
  return Judge(shared_.library.set_hint(block->p, static_cast<int>(Random(4))));
}

Outcome Walker::SetThreadHint() {
  if (shared_.library.set_thread_hint == nullptr) return Outcome::kUnsupported;
  const int hint = Chance(60) ? GPUROOM_HINT_NONE : static_cast<int>(Random(4));
  return Judge(shared_.library.set_thread_hint(hint, Chance(50) ? nullptr : "storm"));
}

// The tiers' bytes add up, and the block lies within what is described.
Outcome Walker::Describe() {
  Block* block = Pick();
  if (block == nullptr) return Outcome::kIdle;
  if (shared_.library.describe == nullptr) return Outcome::kUnsupported;
  gpuroom_placement place = {};
  if (shared_.library.describe(block->p, &place, sizeof place) != 0) return Outcome::kIdle;
  if (place.device_bytes + place.peer_bytes + place.host_bytes != place.bytes) {
    Fail("the tiers of an allocation do not add up");
  }
  if (place.address != block->p || place.bytes < block->bytes || place.device != device_) {
    Fail("a block of " + std::to_string(block->bytes) + " bytes is described as another");
  }
  Look(block, place.host_bytes);
  return Outcome::kDone;
}

// Whether a block moved since it was seen last.
void Walker::Look(Block* block, uint64_t host_bytes) {
  const bool was_seen = block->host_bytes != ~uint64_t{0};
  if (was_seen && block->host_bytes != host_bytes) shared_.moved_by_itself.fetch_add(1);
  block->host_bytes = host_bytes;
}

// What the driver says of an allocation does not depend on where it lies.
Outcome Walker::AskDriver() {
  size_t free = 0;
  size_t total = 0;
  if (!Ok(Cu().MemGetInfo(&free, &total), "cuMemGetInfo")) return Outcome::kFailed;
  if (free > total) Fail("more memory is free than there is");
  Block* block = PickIf([](const Block& any) { return any.origin == Origin::kAlloc; });
  if (block == nullptr) return Outcome::kIdle;
  CUdeviceptr base = 0;
  size_t bytes = 0;
  const CUdeviceptr inside = block->p + Random(block->bytes);
  if (!Ok(Cu().MemGetAddressRange(&base, &bytes, inside), "cuMemGetAddressRange")) return Outcome::kFailed;
  if (base != block->p || bytes != block->bytes) Fail("the driver names another base or size of a block");
  CUmemorytype type = CU_MEMORYTYPE_HOST;
  if (!Ok(Cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, inside),
          "cuPointerGetAttribute")) {
    return Outcome::kFailed;
  }
  if (type != CU_MEMORYTYPE_DEVICE) Fail("a block is not device memory");
  return Outcome::kDone;
}

}  // namespace gpuroom::soak
