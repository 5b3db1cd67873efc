// DeviceFallingAsleep: one device's part of a sleep, step by step. Until Commit the
// destructor leaves everything awake and as before.
#pragma once

#include "sleep/backup_room.h"
#include "sleep/copy_lane.h"
#include "sleep/engine.h"

namespace gpuroom {

class DeviceFallingAsleep {
 public:
  DeviceFallingAsleep(const Driver& driver, const SleepSettings& settings, DeviceSleep& device);
  ~DeviceFallingAsleep();
  DeviceFallingAsleep(const DeviceFallingAsleep&) = delete;
  DeviceFallingAsleep& operator=(const DeviceFallingAsleep&) = delete;

  // Finds room for all backups and submits the copies into host chunks.
  Status Begin();
  // Makes the other backups, and waits for all.
  Status Finish();
  // Takes the addresses away.
  Status Unmap();
  // Gives the chunks back. Cannot fail, and needs no memory.
  void Commit(SleepCounts* counts);

 private:
  struct Item {
    Placed* placed;
    std::shared_ptr<SleepingMemory> memory;
    uint64_t in_block = 0;  // bytes of backups in ordinary memory
    size_t unmapped = 0;    // windows, from the first on
  };
  // A copy to be made into a host chunk.
  struct Load {
    BackupChunk* chunk;
    uint64_t at;
    CUdeviceptr from;
    uint64_t bytes;
  };

  Status Plan(const SleepItem& item, BackupRoom* room);
  void PlanKeep(Item* item, BackupRoom* room);
  void PlanRun(Item* item, uint64_t offset, uint64_t bytes, BackupRoom* room);
  Status PlanDisk();
  Status CopyIntoChunks();
  Status CopyGroup(size_t first, size_t end, const std::vector<BackupChunk*>& fresh);
  Status PassThroughRing();
  void MapAgain(const Item& item) const;

  const Driver& driver_;
  const SleepSettings& settings_;
  DeviceSleep& device_;
  CopyLane lane_;
  std::vector<Item> items_;
  std::vector<Load> loads_;
  bool committed_ = false;
};

}  // namespace gpuroom
