#include "driver/access.h"

namespace gpuroom {
namespace {

constexpr int kMaxDevices = 64;  // bits of an access mask

size_t AddAccess(uint64_t devices, CUmemAccess_flags flags, CUmemAccessDesc* out) {
  size_t count = 0;
  for (; devices != 0; devices &= devices - 1) {
    CUmemAccessDesc& one = out[count++];
    one.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    one.location.id = __builtin_ctzll(devices);
    one.flags = flags;
  }
  return count;
}

}  // namespace

Status SetAccess(const Driver& driver, CUdeviceptr va, uint64_t bytes, uint64_t writers, uint64_t readers) {
  CUmemAccessDesc access[2 * kMaxDevices];
  size_t count = AddAccess(writers, CU_MEM_ACCESS_FLAGS_PROT_READWRITE, access);
  count += AddAccess(readers & ~writers, CU_MEM_ACCESS_FLAGS_PROT_READ, access + count);
  if (count == 0) return Status();
  return DriverStatus(driver.MemSetAccess(va, bytes, access, count), "cuMemSetAccess");
}

}  // namespace gpuroom
