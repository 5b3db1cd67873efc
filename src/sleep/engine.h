// The engine of sleep and wake: gives the physical memory of what is asleep back and
// makes it again at the same addresses. All or nothing, over all devices of a call.
//
// The caller sees to it that nothing uses the memory meanwhile (a Standstill, with the
// tables' locks held), as for Mover.
#pragma once

#include <vector>

#include "base/status.h"
#include "driver/driver.h"
#include "range/chunk_source.h"
#include "range/placed.h"

namespace gpuroom {

struct SleepItem {
  Placed* placed = nullptr;  // awake, and Sleepable
  SleepAction action = SleepAction::kKeep;
};

// What of one device is to sleep, in the order that copies are made.
struct DeviceSleep {
  CUcontext context = nullptr;    // whose device may read and write all of it
  ChunkSource* source = nullptr;  // takes the device's chunks back
  HostTier* host = nullptr;       // gives memory for backups, counted against its limit
  std::vector<SleepItem> items;
};

struct SleepSettings {
  const char* directory = nullptr;  // for kDisk: an existing directory
  bool visible_files = false;       // the files there have names while they hold backups
  bool verify = false;              // a wake compares checksums of the contents with those of the sleep
};

struct SleepCounts {
  uint64_t ranges = 0;
  uint64_t kept = 0;      // bytes backed up to host memory
  uint64_t on_disk = 0;   // and to files
  uint64_t dropped = 0;   // bytes whose contents are gone
  uint64_t released = 0;  // bytes of HBM and peers that were given back
};

// Can it sleep: mapped by us as we can repeat it, and nobody else's?
bool Sleepable(const Placed& placed);

// Puts all items to sleep, or none. Host memory that is kept or was created ahead carries backups at the
// link's speed; for the rest a pinned ring and several threads fill ordinary memory (docs/measurements.md:
// creating pinned memory is slower than that). Failures, with everything awake and as before:
//   kOutOfMemory     no room for the backups: the host's limit, its memory, the disk
//   kInvalidArgument the directory cannot be used
//   kSystem, kDriver a call failed
Status PutToSleep(const Driver& driver, const SleepSettings& settings, std::vector<DeviceSleep>* devices,
                  SleepCounts* counts);

// What of one device is to wake, first what is needed first.
struct DeviceWake {
  CUcontext context = nullptr;
  ChunkSource* source = nullptr;
  std::vector<Placed*> placed;  // asleep
  // Where the device has no room, host memory takes its place, and Placed::wants_device is set.
  bool anywhere = false;
};

struct WakeCounts {
  uint64_t ranges = 0;
  uint64_t restored = 0;  // bytes with their contents
  uint64_t fresh = 0;     // bytes that were dropped: contents undefined
  uint64_t on_host = 0;   // of `restored`, bytes that are left in host memory (lazy), to be moved later
};

// Wakes all of them, or none: then all are asleep with their backups whole, and a later wake works. Chunks
// come back in the tiers and sizes that they had. `lazy`: backups in host chunks are mapped at the old
// addresses and stay there (Placed::wants_device is set; Mover brings them back to HBM); what cannot be
// mapped is copied, and so is what comes first, as much as the link carries while the rest is mapped.
//   kOutOfMemory  a tier has no room; free memory or wake less
//   kSystem       a backup cannot be read, or does not have its checksum
Status WakeUp(const Driver& driver, bool lazy, std::vector<DeviceWake>* devices, WakeCounts* counts);

}  // namespace gpuroom
