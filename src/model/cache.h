// What a model's layers keep of the tokens that they have seen, from config.json. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "model/layers.h"
#include "model/model.h"

namespace gpuroom::model {

// One for each layer. States of linear attention and Mamba are counted with 4 bytes a number, as engines keep
// them, and what their convolutions look back at with 2.
std::vector<CacheLayer> CacheOf(const Config& config);

// How an engine keeps the cache.
struct CacheFormat {
  uint64_t element_bytes = 2;
  bool expands_latent = false;  // keys and values of each head instead of the compressed vector
  bool keeps_windows = true;    // no more of a layer than its window
};

// Bytes of one sequence of `context` tokens; those that its next token reads are the same.
uint64_t CacheBytes(const std::vector<CacheLayer>& layers, uint64_t context, const CacheFormat& format);

}  // namespace gpuroom::model
