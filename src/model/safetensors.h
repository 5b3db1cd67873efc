// The header of a .safetensors file: names, types and sizes of its tensors. What it says is checked, never
// believed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/header_source.h"
#include "model/model.h"

namespace gpuroom::model {

// As large a header as the format allows.
inline constexpr uint64_t kMostSafetensorsHeader = 100'000'000;

struct StoredTensor {
  std::string name;
  uint64_t elements = 0;
  uint64_t bytes = 0;
  bool floating = false;  // as Tensor's
  bool packed = false;    // its elements are whole words, in which several quantised numbers lie
};

// Appends the file's tensors to *tensors. Reads the header alone.
Mistake ReadSafetensors(HeaderSource* source, std::vector<StoredTensor>* tensors);

}  // namespace gpuroom::model
