// config.json: what a model's architecture is, in Hugging Face's words. Of models that see and hear, the part
// that writes text. Pure.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "model/json_text.h"

namespace gpuroom::model {

inline constexpr uint64_t kMostConfigBytes = uint64_t{4} << 20;
inline constexpr uint64_t kMostDimension = uint64_t{1} << 24;
inline constexpr uint64_t kMostLayers = 1024;

class Config {
 public:
  Config();  // not noexcept, since making a Json may throw

  const std::string& architecture() const { return architecture_; }  // "Qwen3MoeForCausalLM"
  const std::string& type() const { return type_; }                  // "qwen3_moe"
  const Json& json() const { return json_; }
  bool multimodal() const { return multimodal_; }

  // The first of `keys` that is there, and at most kMostDimension; else `otherwise`.
  uint64_t Number(std::initializer_list<const char*> keys, uint64_t otherwise = 0) const;
  bool Has(const char* key) const { return Find(json_, key) != nullptr; }
  bool Flag(const char* key, bool otherwise = false) const { return FindFlag(json_, key, otherwise); }
  std::string Text(const char* key) const { return FindText(json_, key); }

  uint64_t layers() const { return Number({"num_hidden_layers", "n_layer", "n_layers", "num_layers"}); }
  uint64_t hidden() const { return Number({"hidden_size", "n_embd", "d_model"}); }
  uint64_t vocabulary() const { return Number({"vocab_size"}); }
  uint64_t heads() const { return Number({"num_attention_heads", "n_head"}); }
  uint64_t kv_heads() const { return Number({"num_key_value_heads", "num_kv_heads"}, heads()); }
  uint64_t head_size() const;
  // Latent attention, as DeepSeek's.
  bool latent() const { return Number({"kv_lora_rank"}) > 0; }
  uint64_t experts() const {
    return Number({"num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts"});
  }
  uint64_t experts_per_token() const {
    return Number({"num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_topk"},
                  1);
  }
  uint64_t longest_context() const {
    return Number({"max_position_embeddings", "n_positions", "max_seq_len"});
  }
  // Bytes of a number of weights that are not quantised, as torch_dtype says; 2 where nothing does.
  uint64_t float_bytes() const;

 private:
  friend Mistake ParseConfig(std::string_view text, Config* config);

  Json json_;  // of the part that writes text; what it lacks is the whole's
  std::string architecture_;
  std::string type_;
  bool multimodal_ = false;
};

Mistake ParseConfig(std::string_view text, Config* config);

}  // namespace gpuroom::model
