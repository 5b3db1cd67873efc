// A Driver for unit tests: cuMemCreate and its family as counters, with a capacity for the
// device and for the host. No memory is behind it. One test at a time; calls may come from several
// threads, and the test reads the counters while no other thread is there.
#pragma once

#include <cuda.h>

#include <functional>
#include <map>
#include <mutex>

#include "driver/driver.h"

namespace gpuroom {

struct FakeMemory {
  uint64_t device_capacity = UINT64_MAX;
  uint64_t host_capacity = UINT64_MAX;
  uint64_t device_used = 0;
  uint64_t host_used = 0;
  int fail_releases = 0;  // as many cuMemRelease calls fail
  int fail_accesses = 0;  // cuMemSetAccess
  int fail_unmaps = 0;    // cuMemUnmap
  int creates = 0;
  int releases = 0;
  std::map<CUmemGenericAllocationHandle, std::pair<bool, uint64_t>> live;  // host?, bytes
  CUmemAllocationProp last{};
  CUdeviceptr next_va = 1 << 30;
  int reserved = 0;                                            // reservations that there are
  std::map<CUdeviceptr, CUmemGenericAllocationHandle> mapped;  // by address
  int accesses = 0;                                            // cuMemSetAccess calls that succeeded
  int last_device = -1;                                        // of the last of them
  std::function<void()> in_create;                             // cuMemCreate begins with it
  std::function<CUresult(const CUmemAllocationProp&)> refuse;  // what it gives instead of memory, or success
  std::function<void()> in_release;                            // cuMemRelease
};

inline FakeMemory& Fake() {
  static FakeMemory memory;
  return memory;
}

inline std::mutex& FakeMutex() {
  static std::mutex mutex;
  return mutex;
}

inline Driver FakeDriver() {
  Fake() = FakeMemory();
  Driver driver;
  driver.DeviceGetAttribute = [](int* value, CUdevice_attribute, CUdevice) {
    *value = 0;
    return CUDA_SUCCESS;
  };
  driver.DeviceGetUuid = [](CUuuid* uuid, CUdevice device) {
    *uuid = {};
    uuid->bytes[0] = static_cast<char>(device + 1);
    return CUDA_SUCCESS;
  };
  driver.DeviceTotalMem = [](size_t* bytes, CUdevice) {
    *bytes = Fake().device_capacity;
    return CUDA_SUCCESS;
  };
  driver.MemGetInfo = [](size_t* free, size_t* total) {
    const std::lock_guard lock(FakeMutex());
    *total = Fake().device_capacity;
    *free = Fake().device_capacity - Fake().device_used;
    return CUDA_SUCCESS;
  };
  driver.MemCreate = [](CUmemGenericAllocationHandle* out, size_t bytes, const CUmemAllocationProp* prop,
                        unsigned long long) {
    const auto begin = Fake().in_create;
    if (begin) begin();
    const std::lock_guard lock(FakeMutex());
    FakeMemory& fake = Fake();
    const CUresult refused = fake.refuse ? fake.refuse(*prop) : CUDA_SUCCESS;
    if (refused != CUDA_SUCCESS) return refused;
    const bool host = prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE;
    uint64_t& used = host ? fake.host_used : fake.device_used;
    const uint64_t capacity = host ? fake.host_capacity : fake.device_capacity;
    if (bytes > capacity - used) return CUDA_ERROR_OUT_OF_MEMORY;
    used += bytes;
    fake.last = *prop;
    *out = static_cast<CUmemGenericAllocationHandle>(++fake.creates);
    fake.live[*out] = {host, bytes};
    return CUDA_SUCCESS;
  };
  driver.MemAddressReserve = [](CUdeviceptr* va, size_t bytes, size_t, CUdeviceptr, unsigned long long) {
    const std::lock_guard lock(FakeMutex());
    *va = Fake().next_va;
    Fake().next_va += bytes;
    ++Fake().reserved;
    return CUDA_SUCCESS;
  };
  driver.MemAddressFree = [](CUdeviceptr, size_t) {
    const std::lock_guard lock(FakeMutex());
    --Fake().reserved;
    return CUDA_SUCCESS;
  };
  driver.MemMap = [](CUdeviceptr va, size_t, size_t, CUmemGenericAllocationHandle handle,
                     unsigned long long) {
    const std::lock_guard lock(FakeMutex());
    if (Fake().live.count(handle) == 0) return CUDA_ERROR_INVALID_VALUE;
    Fake().mapped[va] = handle;
    return CUDA_SUCCESS;
  };
  driver.MemSetAccess = [](CUdeviceptr, size_t, const CUmemAccessDesc* access, size_t) {
    const std::lock_guard lock(FakeMutex());
    if (Fake().fail_accesses > 0) {
      --Fake().fail_accesses;
      return CUDA_ERROR_UNKNOWN;
    }
    ++Fake().accesses;
    Fake().last_device = access->location.id;
    return CUDA_SUCCESS;
  };
  driver.MemUnmap = [](CUdeviceptr va, size_t) {
    const std::lock_guard lock(FakeMutex());
    if (Fake().fail_unmaps > 0) {
      --Fake().fail_unmaps;
      return CUDA_ERROR_UNKNOWN;
    }
    return Fake().mapped.erase(va) == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  };
  driver.MemRelease = [](CUmemGenericAllocationHandle handle) {
    const auto begin = Fake().in_release;
    if (begin) begin();
    const std::lock_guard lock(FakeMutex());
    FakeMemory& fake = Fake();
    if (fake.fail_releases > 0) {
      --fake.fail_releases;
      return CUDA_ERROR_UNKNOWN;
    }
    const auto found = fake.live.find(handle);
    if (found == fake.live.end()) return CUDA_ERROR_INVALID_VALUE;
    (found->second.first ? fake.host_used : fake.device_used) -= found->second.second;
    fake.live.erase(found);
    ++fake.releases;
    return CUDA_SUCCESS;
  };
  return driver;
}

}  // namespace gpuroom
