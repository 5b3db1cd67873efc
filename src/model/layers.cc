#include "model/layers.h"

#include <algorithm>
#include <string>

namespace gpuroom::model {
namespace {

bool Every(uint64_t layer, uint64_t period, uint64_t offset) {
  return period == 0 || layer % period == offset;
}

bool Lists(const Config& config, const char* key, uint64_t layer) {
  const Json* list = Find(config.json(), key);
  if (list == nullptr || !list->is_array()) return false;
  return std::any_of(list->begin(), list->end(), [layer](const Json& entry) {
    return entry.is_number_unsigned() && entry.get<uint64_t>() == layer;
  });
}

// The entry of `layer` in a list of texts, or "".
std::string Entry(const Config& config, const char* key, uint64_t layer) {
  const Json* list = Find(config.json(), key);
  if (list == nullptr || !list->is_array() || layer >= list->size() || !(*list)[layer].is_string()) return "";
  return (*list)[layer].get<std::string>();
}

Mixer MambaOf(const Config& config) {
  return config.Has("mamba_dt_rank") || config.type() == "jamba" ? Mixer::kMamba1 : Mixer::kMamba2;
}

uint64_t WindowOf(const Config& config) {
  if (config.Has("use_sliding_window") && !config.Flag("use_sliding_window")) return 0;
  return config.Number({"sliding_window", "attention_chunk_size"});
}

// Of models that tell windows from full attention by a rule rather than by a list.
bool IsWindowByRule(const Config& config, uint64_t layer) {
  const std::string& type = config.type();
  if (type == "gemma2" || type == "gpt_oss") return layer % 2 == 0;
  if (type == "llama4_text") return (layer + 1) % 4 != 0;
  const uint64_t otherwise = type.starts_with("gemma3") ? 6 : type == "cohere2" ? 4 : 0;
  const uint64_t pattern = config.Number({"sliding_window_pattern"}, otherwise);
  return pattern == 0 || (layer + 1) % pattern != 0;
}

void SetMixerByName(const Config& config, const std::string& name, LayerKind* kind) {
  if (name == "linear_attention") kind->mixer = Mixer::kLinear;
  if (name == "mamba") kind->mixer = MambaOf(config);
  if (name == "sliding_attention" || name == "chunked_attention") kind->window = WindowOf(config);
}

void SetMixerByRule(const Config& config, uint64_t layer, LayerKind* kind) {
  const uint64_t interval = config.Number({"full_attention_interval"});
  if (interval > 0) {
    if ((layer + 1) % interval != 0) kind->mixer = Mixer::kLinear;
  } else if (config.Has("attn_layer_period")) {
    const uint64_t period = config.Number({"attn_layer_period"});
    if (!Every(layer, period, config.Number({"attn_layer_offset"}))) kind->mixer = MambaOf(config);
  } else if (config.Has("attn_layer_indices")) {
    if (!Lists(config, "attn_layer_indices", layer)) kind->mixer = MambaOf(config);
  } else if (IsWindowByRule(config, layer)) {
    kind->window = WindowOf(config);
  }
}

bool HasExperts(const Config& config, uint64_t layer) {
  if (config.experts() == 0 || Lists(config, "mlp_only_layers", layer)) return false;
  if (layer < config.Number({"first_k_dense_replace", "moe_layer_start_index"})) return false;
  if (config.Has("expert_layer_period")) {
    return Every(layer, config.Number({"expert_layer_period"}), config.Number({"expert_layer_offset"}));
  }
  const uint64_t step = config.Number({"decoder_sparse_step", "interleave_moe_layer_step"});
  if (step > 0) return (layer + 1) % step == 0;
  return Every(layer, config.Number({"moe_layer_freq", "moe_layer_interval"}, 1), 0);
}

// Nemotron-H: a letter for each layer, which is either a mixer or an MLP.
LayerKind ByLetter(char letter) {
  switch (letter) {
    case 'M': return {Mixer::kMamba2, 0, Mlp::kNone};
    case '*': return {Mixer::kAttention, 0, Mlp::kNone};
    case 'E': return {Mixer::kNone, 0, Mlp::kExperts};
    default: return {Mixer::kNone, 0, Mlp::kDense};
  }
}

LayerKind KindOf(const Config& config, uint64_t layer) {
  LayerKind kind;
  const std::string name = Entry(config, "layer_types", layer);
  name.empty() ? SetMixerByRule(config, layer, &kind) : SetMixerByName(config, name, &kind);
  if (config.latent() && kind.mixer == Mixer::kAttention) kind.mixer = Mixer::kLatent;
  if (HasExperts(config, layer)) kind.mlp = Mlp::kExperts;
  return kind;
}

}  // namespace

std::vector<LayerKind> LayersOf(const Config& config) {
  std::vector<LayerKind> kinds;
  const std::string letters = config.Text("hybrid_override_pattern");
  for (uint64_t layer = 0; layer < config.layers(); ++layer) {
    kinds.push_back(letters.empty()          ? KindOf(config, layer)
                    : layer < letters.size() ? ByLetter(letters[layer])
                                             : LayerKind());
  }
  return kinds;
}

}  // namespace gpuroom::model
