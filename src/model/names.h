// What the name of a tensor says: in which layer it is, how it is read, and which others it is loaded with as
// one. Names as in Hugging Face's checkpoints and in GGUF files. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "model/model.h"

namespace gpuroom::model {

struct TensorName {
  Role role = Role::kDense;
  int layer = -1;
  std::string fused;  // the same for all that are loaded as one tensor
};

// `layers`: those of the model; what checkpoints number beyond them predicts further tokens.
TensorName ReadName(std::string_view name, uint64_t layers);
TensorName ReadGgufName(std::string_view name);

}  // namespace gpuroom::model
