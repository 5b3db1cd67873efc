// DeviceWakingUp: one device's part of a wake, step by step. Until Commit the
// destructor leaves everything asleep with its backups whole.
#pragma once

#include "sleep/copy_lane.h"
#include "sleep/engine.h"
#include "sleep/sleeping_memory.h"

namespace gpuroom {

// Chunks side by side that are mapped together.
struct WakeSegment {
  bool fresh = false;  // made anew, to be filled. Else they hold their contents already
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::vector<Chunk> chunks;  // fresh ones that are not made yet have no handle
};

// What memory will consist of: the chunks that it had, but for what is mapped from the backup.
struct WakePlan {
  std::vector<WakeSegment> segments;  // in address order
  std::vector<bool> stays;            // by backup: its chunk takes the memory's place, and is not copied
};

// Of the backups that could stay, the first are copied as far as *to_copy bytes reach; they are taken
// off it.
WakePlan PlanWake(const SleepingMemory& memory, uint64_t* to_copy);

// Whole mappings side by side.
struct MappedSpan {
  CUdeviceptr va;
  uint64_t bytes;
};

class DeviceWakingUp {
 public:
  DeviceWakingUp(const Driver& driver, bool lazy, DeviceWake& device);
  ~DeviceWakingUp();
  DeviceWakingUp(const DeviceWakingUp&) = delete;
  DeviceWakingUp& operator=(const DeviceWakingUp&) = delete;

  // Makes and maps chunks and submits the copies from host chunks, in the order of what wakes; then
  // maps what needs no copy.
  Status Begin();
  // Brings the other contents, waits for all, and compares checksums.
  Status Finish();
  // Lets the backups go. Cannot fail, and needs no memory.
  void Commit(WakeCounts* counts);

 private:
  struct Item {
    Placed* placed;
    SleepingMemory* memory;
    WakePlan plan;
    CUdeviceptr va = 0;  // where the device writes it: a window, or scratch
    std::shared_ptr<Scratch> scratch = nullptr;
    std::vector<MappedSpan> mapped = {};
    bool elsewhere = false;  // some of it came to lie in host memory, for want of HBM
  };

  uint64_t BytesToCopy() const;
  static void Reserve(Item* item);
  Status FindAddress(Item* item);
  Status Fill(Item* item);
  // A chunk as this one was, or where `anywhere` allows that, in host memory.
  Result<Chunk> Create(const Chunk& wanted) const;
  Status CreateAndMap(Item* item, WakeSegment* segment);
  Status Map(Item* item, const WakeSegment& segment);
  Status MapAt(Item* item, const WakeSegment& segment, const Window& window);
  Status CopyFromChunks(const Item& item);
  Status PassThroughRing();
  void Undo(Item& item);
  void DropScratch(const Item& item);
  void CommitItem(const Item& item, WakeCounts* counts);

  const Driver& driver_;
  const bool lazy_;
  DeviceWake& device_;
  CopyLane lane_;
  std::vector<Item> items_;
  bool committed_ = false;
};

}  // namespace gpuroom
