// Block and Segment: what the pool knows of its memory. Both are recycled and
// given back only when the pool ends, so that a lookup needs no lock: a pointer
// that was never ours may lead to a stale one, but never to freed memory.
//
// A block's state says who may touch the rest of it: Central's lock while it is
// kFree, else whoever holds the block (the program, a front cache, Pending).
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>

#include "pool/size_class.h"
#include "pool/stream_key.h"

namespace gpuroom {

struct Segment;

enum class BlockState : uint32_t {
  kFree,  // in Central, or not in use at all
  kLive,  // the program's
  kHeld,  // freed, in a front cache, pending or on its way
};

struct alignas(64) Block {
  // The hot path needs these alone: one cache line.
  std::atomic<CUdeviceptr> va{0};
  std::atomic<BlockState> state{BlockState::kFree};
  std::atomic<bool> shared{false};       // used on streams beside its own; Pending has the list
  bool front = false;                    // may enter a front cache
  uint8_t size_class = 0;                // where it may
  std::atomic<StreamKey> key{kIdleKey};  // whose order its reuse may rely on
  uint64_t bytes = 0;
  uint64_t asked = 0;
  Block* next_held = nullptr;  // chains of held blocks

  Segment* segment = nullptr;
  Block* before = nullptr;  // neighbours in the segment, by address
  Block* after = nullptr;
  uint64_t freed_at = 0;  // Central's clock when it was freed

  StreamKey stream() const { return key.load(std::memory_order_relaxed); }
};

// A family of segments whose blocks serve the same requests: the shared one, or
// a private pool's. Defined in shelves.h.
struct Arena;

struct Segment {
  // Fixed for the life of this object, which is the pool's: one slot for each
  // unit, a power of two of them, that holds the block that begins there.
  uint64_t capacity = 0;
  std::atomic<Block*>* slots = nullptr;
  // What it stands for now. Lookups read the first two.
  std::atomic<CUdeviceptr> va{0};
  std::atomic<uint32_t> shift{0};  // log2 of the unit
  uint64_t bytes = 0;
  Arena* arena = nullptr;
  Block* first = nullptr;
  uint64_t out = 0;          // blocks that are not kFree
  bool after_graph = false;  // graphs may use it yet: what is free is unordered
  bool spilled = false;      // made with kAny
  uint64_t released_at = 0;  // Central's clock when after_graph was set

  std::atomic<Block*>& Slot(CUdeviceptr at) {
    return slots[(at - va.load(std::memory_order_relaxed)) >> shift.load(std::memory_order_relaxed)];
  }
};

}  // namespace gpuroom
