#include "model/cache.h"

#include <algorithm>

#include "model/mixers.h"

namespace gpuroom::model {
namespace {

constexpr uint64_t kStateElement = 4;
constexpr uint64_t kConvolvedElement = 2;
// No layer keeps more numbers of a token, or more bytes of a sequence: sums stay within 64 bits.
constexpr uint64_t kMostElements = uint64_t{1} << 26;
constexpr uint64_t kMostState = uint64_t{1} << 40;

CacheLayer Attention(const Config& config, uint64_t window) {
  CacheLayer layer;
  layer.elements = 2 * config.kv_heads() * config.head_size();
  layer.window = window;
  return layer;
}

CacheLayer Latent(const Config& config) {
  CacheLayer layer;
  const uint64_t rope = config.Number({"qk_rope_head_dim"});
  const uint64_t nope = config.Number({"qk_nope_head_dim"});
  layer.elements = config.Number({"kv_lora_rank"}) + rope + config.Number({"index_head_dim"});
  layer.expanded_elements = config.heads() * (rope + nope + config.Number({"v_head_dim"}));
  return layer;
}

CacheLayer State(uint64_t state, uint64_t convolved, uint64_t kernel) {
  CacheLayer layer;
  const uint64_t back = kernel > 0 ? kernel - 1 : 0;
  layer.state_bytes = std::min(state, kMostState) * kStateElement +
                      std::min(convolved * back, kMostState) * kConvolvedElement;
  return layer;
}

CacheLayer LayerOf(const Config& config, const LayerKind& kind) {
  const LinearSizes linear(config);
  const MambaSizes mamba(config);
  switch (kind.mixer) {
    case Mixer::kNone: return {};
    case Mixer::kAttention: return Attention(config, kind.window);
    case Mixer::kLatent: return Latent(config);
    case Mixer::kLinear: return State(linear.state(), linear.convolved(), linear.kernel);
    case Mixer::kMamba1: return State(mamba.state(), mamba.inner, mamba.kernel);
    case Mixer::kMamba2: return State(mamba.state(), mamba.convolved(), mamba.kernel);
  }
  return {};
}

}  // namespace

std::vector<CacheLayer> CacheOf(const Config& config) {
  std::vector<CacheLayer> layers;
  for (const LayerKind& kind : LayersOf(config)) {
    CacheLayer layer = LayerOf(config, kind);
    layer.elements = std::min(layer.elements, kMostElements);
    layer.expanded_elements = std::min(layer.expanded_elements, kMostElements);
    layers.push_back(layer);
  }
  return layers;
}

uint64_t CacheBytes(const std::vector<CacheLayer>& layers, uint64_t context, const CacheFormat& format) {
  uint64_t bytes = 0;
  for (const CacheLayer& layer : layers) {
    const bool expanded = format.expands_latent && layer.expanded_elements > 0;
    const bool windowed = format.keeps_windows && layer.window > 0;
    const uint64_t tokens = windowed ? std::min(context, layer.window) : context;
    bytes += tokens * (expanded ? layer.expanded_elements : layer.elements) * format.element_bytes +
             layer.state_bytes;
  }
  return bytes;
}

}  // namespace gpuroom::model
