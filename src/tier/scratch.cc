#include "tier/scratch.h"

#include "driver/insist.h"

namespace gpuroom {

Result<std::shared_ptr<Scratch>> Scratch::Reserve(const Driver& driver, uint64_t bytes) {
  CUdeviceptr va = 0;
  const CUresult result = driver.MemAddressReserve(&va, bytes, 0, 0, 0);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemAddressReserve");
  return std::make_shared<Scratch>(driver, va, bytes);
}

// What stays reserved costs addresses alone.
Scratch::~Scratch() {
  Insist([&] { return driver_.MemAddressFree(va_, bytes_); });
}

}  // namespace gpuroom
