// All memory of this process that could sleep, and its division among the devices for the engine.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "driver/device_context.h"
#include "driver/scrap.h"
#include "runtime/displace.h"

namespace gpuroom {

// All of it, the oldest first, while `use` runs with the lock of rt.memory held.
template <typename Use>
void WithAllPlaced(Runtime& rt, Use use) {
  rt.memory.WithAll(use);
}

// The devices' shares in a call: `Share` is DeviceSleep or DeviceWake.
template <typename Share>
class Shares {
 public:
  explicit Shares(Runtime& rt) : rt_(rt) {}

  // Valid until the next call.
  Share& Of(CUdevice device) {
    for (size_t i = 0; i < devices_.size(); ++i) {
      if (devices_[i]->tier.device() == device) return shares_[i];
    }
    devices_.push_back(rt_.ExistingDevice(device));
    Share& share = shares_.emplace_back();
    share.source = &devices_.back()->source;
    return share;
  }

  // Finds each device's context; the shares are ready then.
  Status Prepare() {
    RetryScrap();  // it may hold what is missing
    for (size_t i = 0; i < devices_.size(); ++i) {
      contexts_.push_back(std::make_unique<DeviceContext>(rt_.driver, devices_[i]->tier.device()));
      if (!contexts_.back()->status().ok()) return contexts_.back()->status();
      shares_[i].context = contexts_.back()->get();
    }
    return Status();
  }

  bool empty() const { return shares_.empty(); }
  std::vector<Share>* shares() { return &shares_; }
  DeviceState& device(size_t i) const { return *devices_[i]; }

 private:
  Runtime& rt_;
  std::vector<DeviceState*> devices_;
  std::vector<Share> shares_;
  std::vector<std::unique_ptr<DeviceContext>> contexts_;
};

}  // namespace gpuroom
