// What each layer of a model is made of: how it looks back at earlier tokens, and whether its MLP has
// experts. config.json says so in a dozen ways. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"

namespace gpuroom::model {

enum class Mixer : uint8_t {
  kNone,       // the layer is an MLP alone
  kAttention,  // keys and values of each token, of the last `window` where that is not 0
  kLatent,     // one compressed vector of each token
  kLinear,     // gated delta rule: a state of fixed size
  kMamba1,
  kMamba2,
};

enum class Mlp : uint8_t { kNone, kDense, kExperts };

struct LayerKind {
  Mixer mixer = Mixer::kAttention;
  uint64_t window = 0;
  Mlp mlp = Mlp::kDense;
};

std::vector<LayerKind> LayersOf(const Config& config);

}  // namespace gpuroom::model
