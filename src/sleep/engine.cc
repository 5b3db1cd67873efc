#include "sleep/engine.h"

#include <memory>

#include "driver/scrap.h"
#include "range/mover.h"
#include "sleep/put_to_sleep.h"
#include "sleep/wake_up.h"

namespace gpuroom {
namespace {

// Calls `step` on all until one fails.
template <typename Parts, typename Step>
Status All(const Parts& parts, Step step) {
  for (const auto& part : parts) {
    const Status status = step(*part);
    if (!status.ok()) return status;
  }
  return Status();
}

}  // namespace

// What the mover can copy away and map again, a sleep can.
bool Sleepable(const Placed& placed) { return Movable(placed); }

// While one device's copies run, the next one's are submitted.
Status PutToSleep(const Driver& driver, const SleepSettings& settings, std::vector<DeviceSleep>* devices,
                  SleepCounts* counts) {
  RetryScrap();
  std::vector<std::unique_ptr<DeviceFallingAsleep>> parts;
  for (DeviceSleep& device : *devices) {
    parts.push_back(std::make_unique<DeviceFallingAsleep>(driver, settings, device));
  }
  Status status = All(parts, [](auto& part) { return part.Begin(); });
  if (status.ok()) status = All(parts, [](auto& part) { return part.Finish(); });
  if (status.ok()) status = All(parts, [](auto& part) { return part.Unmap(); });
  if (!status.ok()) return status;
  for (const auto& part : parts) part->Commit(counts);
  return Status();
}

Status WakeUp(const Driver& driver, bool lazy, std::vector<DeviceWake>* devices, WakeCounts* counts) {
  RetryScrap();
  std::vector<std::unique_ptr<DeviceWakingUp>> parts;
  for (DeviceWake& device : *devices) {
    parts.push_back(std::make_unique<DeviceWakingUp>(driver, lazy, device));
  }
  Status status = All(parts, [](auto& part) { return part.Begin(); });
  if (status.ok()) status = All(parts, [](auto& part) { return part.Finish(); });
  if (!status.ok()) return status;
  for (const auto& part : parts) part->Commit(counts);
  return Status();
}

}  // namespace gpuroom
