// Displacement: when HBM is short, the coldest large data gives way to what is
// asked for now, and comes back when there is room again. What a program
// allocates last it uses most (docs/measurements.md). Called from within a hook; nothing known
// of mappings before holds afterwards.
#pragma once

#include "range/mover.h"
#include "runtime/runtime.h"

namespace gpuroom {

// HBM bytes of large data on `device` that could give way.
uint64_t Displaceable(Runtime& rt, const DeviceState& device);

// Moves at least `bytes` of HBM elsewhere, or as much as can be; returns how much.
uint64_t Displace(Runtime& rt, DeviceState& device, uint64_t bytes);

// For a request of `bytes` that HBM had no room for: lets large data give way if the request is
// of those that belong in HBM. True if trying again makes sense.
bool MakeRoomFor(Runtime& rt, DeviceState& device, uint64_t bytes);

// After something was freed: moves back what gave way, if there is room, a standstill can be had soon, and
// the last displacement, or the last that could not be had, is long enough ago.
void MoveBackAny(Runtime& rt, DeviceState& device);
inline void MoveBack(Runtime& rt, DeviceState& device) {
  if (rt.memory.IndexOf(device.tier.device()).may_have_returners()) MoveBackAny(rt, device);
}

// What a slice did.
enum class Returned : uint8_t {
  kSome,
  kNothing,  // nothing is left to move, HBM is full, or the driver fails
  kNotNow,   // a capture is in progress, or the GPU does not come to rest
};

// Moves some `bytes` that lie outside HBM and belong there back, over all devices, as far as there
// is room. From outside of any Entry. `patience` is a Standstill's.
Returned ReturnSlice(Runtime& rt, uint64_t bytes, uint64_t patience);

// Moves parts of what `device` has given out. Only in a Standstill, with the lock of rt.memory held, whose
// index knows afterwards.
Status MoveParts(Runtime& rt, DeviceState& device, std::vector<Part>* parts);

}  // namespace gpuroom
