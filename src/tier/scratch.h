// Scratch: device addresses at which chunks are shown besides their own.
#pragma once

#include <memory>

#include "base/status.h"
#include "driver/driver.h"

namespace gpuroom {

// A reservation, which several chunks may share.
class Scratch {
 public:
  static Result<std::shared_ptr<Scratch>> Reserve(const Driver& driver, uint64_t bytes);
  // Nothing is reserved yet.
  Scratch(const Driver& driver, uint64_t bytes) : driver_(driver), bytes_(bytes) {}
  // Nothing is mapped there any more.
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  CUdeviceptr va() const { return va_; }

 private:
  const Driver& driver_;
  CUdeviceptr va_ = 0;
  const uint64_t bytes_;
};

}  // namespace gpuroom
