#include "tier/host_ahead.h"

#include <chrono>

#include "base/blocked_signals.h"

namespace gpuroom {
namespace {

constexpr uint64_t kChunk = 64 * kMiB;
constexpr auto kLook = std::chrono::milliseconds(20);      // how often it looks what was taken
constexpr auto kRefused = std::chrono::milliseconds(500);  // and when there was no room

}  // namespace

HostAhead::HostAhead(HostTier& tier, CUdevice device, uint64_t bytes)
    : tier_(tier), device_(device), bytes_(bytes) {
  const BlockedSignals blocked;
  thread_ = std::thread([this] { Run(); });
}

HostAhead::~HostAhead() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopping_.notify_all();
  thread_.join();
}

void HostAhead::Run() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    auto pause = kLook;
    if (tier_.kept_bytes() + tier_.lent_bytes() + kChunk <= bytes_) {
      lock.unlock();
      const bool made = tier_.CreateKept(kChunk, device_);
      lock.lock();
      if (made) continue;
      pause = kRefused;
    }
    stopping_.wait_for(lock, pause, [this] { return stop_; });
  }
}

}  // namespace gpuroom
