#include "tier/scratch.h"

#include "driver/insist.h"

namespace gpuroom {

Result<std::shared_ptr<Scratch>> Scratch::Reserve(const Driver& driver, uint64_t bytes) {
  const auto scratch = std::make_shared<Scratch>(driver, bytes);
  CUdeviceptr va = 0;
  const CUresult result = driver.MemAddressReserve(&va, bytes, 0, 0, 0);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemAddressReserve");
  scratch->va_ = va;
  return scratch;
}

// What stays reserved costs addresses alone.
Scratch::~Scratch() {
  if (va_ == 0) return;
  Insist([&] { return driver_.MemAddressFree(va_, bytes_); });
}

}  // namespace gpuroom
