#include "capi/pools.h"

#include <array>
#include <atomic>
#include <memory>

#include "base/log.h"
#include "capi/allocate.h"
#include "driver/device_context.h"
#include "runtime/runtime.h"

namespace gpuroom {
namespace {

// A pool's segments, as gpuroom gives out any memory.
class DeviceSegments : public SegmentSource {
 public:
  explicit DeviceSegments(int device) : device_(device) {}

  Result<CUdeviceptr> Create(uint64_t bytes, CUstream, Where where) override {
    return AllocateOn(device_, bytes, where);
  }
  Status Destroy(CUdeviceptr va) override { return FreeOn(device_, va); }

 private:
  const int device_;
};

struct DevicePool {
  DevicePool(Runtime& rt, CUcontext context, int device)
      : segments(device), pool(rt.driver, segments, OptionsFor(rt, context)) {}

  static PoolOptions OptionsFor(Runtime& rt, CUcontext context) {
    PoolOptions options;
    options.context = context;
    options.synchronize = [&rt] {
      const Captures::Quiet quiet(rt.captures);
      if (!quiet) return Status(Code::kBusy, "a CUDA graph is being captured");
      return DriverStatus(rt.driver.CtxSynchronize(), "cuCtxSynchronize");
    };
    return options;
  }

  DeviceSegments segments;
  Pool pool;
};

constexpr char kNoPart[] =
    "gpuroom has no part in this process: it needs NVIDIA driver 580 or newer, and a process that was not "
    "forked from one that used CUDA";

std::array<std::atomic<DevicePool*>, Runtime::kMaxDevices> g_pools{};

}  // namespace

Pool* ExistingPool(int device) {
  if (device < 0 || device >= Runtime::kMaxDevices) return nullptr;
  DevicePool* made = g_pools[static_cast<size_t>(device)].load(std::memory_order_acquire);
  return made == nullptr ? nullptr : &made->pool;
}

Result<Pool*> PoolOf(int device) {
  if (Pool* existing = ExistingPool(device); existing != nullptr) return existing;
  const Entry rt(true);
  if (!rt) return Status(Code::kUnsupported, kNoPart);
  if (device < 0 || device >= Runtime::kMaxDevices || rt->Device(device) == nullptr)
    return Status(Code::kNotFound, "the driver has no such device");
  const OnDevice here(rt->driver, device);
  if (!here.status().ok()) return here.status();
  CUcontext context = nullptr;
  CUcontext primary = nullptr;
  // Kept for good, as the pool is.
  const CUresult kept = rt->driver.DevicePrimaryCtxRetain(&primary, device);
  if (kept != CUDA_SUCCESS) return DriverStatus(kept, "cuDevicePrimaryCtxRetain");
  if (rt->driver.CtxGetCurrent(&context) != CUDA_SUCCESS) context = primary;
  auto made = std::make_unique<DevicePool>(*rt, context, device);
  DevicePool* none = nullptr;
  if (g_pools[static_cast<size_t>(device)].compare_exchange_strong(none, made.get())) {
    (void)made.release();  // for good: the program frees memory in its own destructors
  }
  return ExistingPool(device);
}

}  // namespace gpuroom
