#include "model/architecture.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "model/layers.h"
#include "model/mixers.h"

namespace gpuroom::model {
namespace {

__extension__ typedef unsigned __int128 Wide;

// What an architecture has that config.json does not say.
struct Family {
  const char* type;
  bool gated = true;         // its MLPs have a gate beside up and down
  bool qkv_bias = false;     // also without "attention_bias"
  bool head_norms = false;   // norms of each query and key
  bool tied = false;         // the embedding is the output head where config.json is silent
  bool gated_query = false;  // queries bring a gate of their own size
  uint64_t norms = 2;        // of a layer, each of hidden_size
};

constexpr Family kFamilies[] = {
    {.type = "llama"},
    {.type = "mistral"},
    {.type = "mixtral"},
    {.type = "ministral"},
    {.type = "phi3"},
    {.type = "phimoe", .qkv_bias = true},
    {.type = "smollm3", .tied = true},
    {.type = "seed_oss", .qkv_bias = true},
    {.type = "qwen2", .qkv_bias = true},
    {.type = "qwen2_moe", .qkv_bias = true},
    {.type = "qwen2_vl", .qkv_bias = true},
    {.type = "qwen2_5_vl", .qkv_bias = true},
    {.type = "qwen2_5_vl_text", .qkv_bias = true},
    {.type = "qwen3", .head_norms = true},
    {.type = "qwen3_moe", .head_norms = true},
    {.type = "qwen3_vl_text", .head_norms = true},
    {.type = "qwen3_vl_moe_text", .head_norms = true},
    {.type = "qwen3_next", .head_norms = true, .gated_query = true},
    {.type = "qwen3_5_text", .head_norms = true, .gated_query = true},
    {.type = "qwen3_5_moe_text", .head_norms = true, .gated_query = true},
    {.type = "gemma", .tied = true},
    {.type = "gemma2", .tied = true, .norms = 4},
    {.type = "gemma3", .head_norms = true, .tied = true, .norms = 4},
    {.type = "gemma3_text", .head_norms = true, .tied = true, .norms = 4},
    {.type = "deepseek_v2"},
    {.type = "deepseek_v3"},
    {.type = "deepseek_v32"},
    {.type = "kimi_k2"},
    {.type = "glm4_moe"},
    {.type = "glm4_moe_lite"},
    {.type = "glm_moe_dsa"},
    {.type = "gpt_oss"},
    {.type = "llama4_text"},
    {.type = "olmo2"},
    {.type = "olmo3"},
    {.type = "olmoe"},
    {.type = "granite"},
    {.type = "granitemoe"},
    {.type = "granitemoehybrid"},
    {.type = "bamba"},
    {.type = "jamba"},
    {.type = "nemotron_h", .gated = false, .norms = 1},
    {.type = "starcoder2", .gated = false, .qkv_bias = true, .tied = true},
    {.type = "cohere", .tied = true, .norms = 1},
    {.type = "cohere2", .tied = true, .norms = 1},
    {.type = "minimax_m2"},
    {.type = "ernie4_5", .tied = true},
    {.type = "ernie4_5_moe", .tied = true},
    {.type = "exaone4", .head_norms = true},
    {.type = "hunyuan_v1_dense", .head_norms = true},
    {.type = "hunyuan_v1_moe", .head_norms = true},
};

const Family* FindFamily(const std::string& type) {
  const auto* found = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                   [&type](const Family& family) { return type == family.type; });
  return found == std::end(kFamilies) ? nullptr : found;
}

// Builds the list, one layer after the other. Parameters that would overflow stop at 2^62, which Finish then
// refuses.
class Builder {
 public:
  Builder(const Config& config, const Quantization& quantization, const Family& family,
          std::vector<Tensor>* tensors)
      : config_(config),
        quantization_(quantization),
        family_(family),
        tensors_(tensors),
        hidden_(config.hidden()),
        float_bytes_(config.float_bytes()) {}

  void Embedding() { Add("model.embed_tokens", Role::kEmbedding, config_.vocabulary(), hidden_, 1, false); }
  void Head() {
    Vector("model.norm", hidden_);
    if (!TiesEmbedding(config_)) Add("lm_head", Role::kHead, config_.vocabulary(), hidden_, 1, false);
  }
  void Layer(int number, const LayerKind& kind) {
    layer_ = number;
    prefix_ = fmt::format("model.layers.{}.", number);
    Vector("norms", family_.norms * hidden_);
    AddMixer(kind.mixer);
    AddMlp(kind.mlp);
    prefix_.clear();
    layer_ = -1;
  }
  Mistake Finish() const;

 private:
  void AddMixer(Mixer mixer);
  void Attention();
  void Latent();
  void Linear();
  void Mamba1();
  void Mamba2();
  void AddMlp(Mlp mlp);
  void DenseMlp(const char* name, uint64_t width);
  void Experts();
  uint64_t DenseWidth() const;

  // `count` matrices of `rows` x `columns`, as one tensor.
  void Add(const std::string& name, Role role, uint64_t rows, uint64_t columns, uint64_t count,
           bool quantised);
  void Matrix(const std::string& name, uint64_t rows, uint64_t columns) {
    Add(name, Role::kDense, rows, columns, 1, true);
  }
  // What is never quantised: norms, biases, small matrices.
  void Vector(const std::string& name, uint64_t size) { Add(name, Role::kDense, 1, size, 1, false); }

  const Config& config_;
  const Quantization& quantization_;
  const Family& family_;
  std::vector<Tensor>* tensors_;
  const uint64_t hidden_;
  const uint64_t float_bytes_;
  std::string prefix_;
  int layer_ = -1;
};

void Builder::Add(const std::string& name, Role role, uint64_t rows, uint64_t columns, uint64_t count,
                  bool quantised) {
  constexpr uint64_t kMost = uint64_t{1} << 58;  // numbers; with 8 bytes each they stay within 64 bits
  const Wide parameters = Wide{rows} * columns * count;
  Tensor tensor;
  tensor.name = prefix_ + name;
  tensor.role = role;
  tensor.layer = layer_;
  tensor.parameters = parameters > kMost ? kMost : static_cast<uint64_t>(parameters);
  const bool plain = !quantised || parameters > kMost || quantization_.Spares(tensor.name);
  tensor.bytes = plain ? tensor.parameters * float_bytes_
                       : count * quantization_.MatrixBytes(tensor.name, rows, columns, float_bytes_);
  tensor.floating = plain;
  if (tensor.parameters > 0) tensors_->push_back(std::move(tensor));
}

Mistake Builder::Finish() const {
  const auto large = std::find_if(tensors_->begin(), tensors_->end(),
                                  [](const Tensor& tensor) { return tensor.bytes > kMostTensorBytes; });
  if (large == tensors_->end()) return "";
  return fmt::format("gives '{}' more than 64 TiB; download it again", large->name);
}

void Builder::AddMixer(Mixer mixer) {
  switch (mixer) {
    case Mixer::kNone: return;
    case Mixer::kAttention: return Attention();
    case Mixer::kLatent: return Latent();
    case Mixer::kLinear: return Linear();
    case Mixer::kMamba1: return Mamba1();
    case Mixer::kMamba2: return Mamba2();
  }
}

void Builder::Attention() {
  const uint64_t size = config_.head_size();
  const uint64_t queries = config_.heads() * size;
  const uint64_t keys = config_.kv_heads() * size;
  const uint64_t all = queries * (family_.gated_query ? 2 : 1) + 2 * keys;
  Matrix("self_attn.qkv_proj", all, hidden_);
  Matrix("self_attn.o_proj", hidden_, queries);
  if (family_.qkv_bias || config_.Flag("attention_bias")) Vector("self_attn.bias", all);
  if (family_.head_norms || config_.Flag("use_qk_norm")) Vector("self_attn.head_norms", 2 * size);
}

// DeepSeek's: queries and keys come of compressed vectors (arXiv 2405.04434, and 2512.02556 for the indexer).
void Builder::Latent() {
  const uint64_t heads = config_.heads();
  const uint64_t rope = config_.Number({"qk_rope_head_dim"});
  const uint64_t nope = config_.Number({"qk_nope_head_dim"});
  const uint64_t value = config_.Number({"v_head_dim"});
  const uint64_t query_rank = config_.Number({"q_lora_rank"});
  const uint64_t rank = config_.Number({"kv_lora_rank"});
  if (query_rank > 0) Matrix("self_attn.q_a_proj", query_rank, hidden_);
  Matrix(query_rank > 0 ? "self_attn.q_b_proj" : "self_attn.q_proj", heads * (nope + rope),
         query_rank > 0 ? query_rank : hidden_);
  Matrix("self_attn.kv_a_proj_with_mqa", rank + rope, hidden_);
  Matrix("self_attn.kv_b_proj", heads * (nope + value), rank);
  Matrix("self_attn.o_proj", hidden_, heads * value);
  Vector("self_attn.norms", query_rank + rank);
  const uint64_t index = config_.Number({"index_head_dim"});
  if (index == 0) return;
  Matrix("self_attn.indexer.wq_b", config_.Number({"index_n_heads"}) * index, query_rank);
  Matrix("self_attn.indexer.wk", index, hidden_);
  Vector("self_attn.indexer.weights_proj", config_.Number({"index_n_heads"}) * hidden_);
}

void Builder::Linear() {
  const LinearSizes sizes(config_);
  Matrix("linear_attn.in_proj_qkvz", 2 * sizes.key + 2 * sizes.value(), hidden_);
  Matrix("linear_attn.in_proj_ba", 2 * sizes.value_heads, hidden_);
  Matrix("linear_attn.out_proj", hidden_, sizes.value());
  Vector("linear_attn.conv1d", sizes.convolved() * sizes.kernel);
  Vector("linear_attn.rest", 2 * sizes.value_heads + sizes.value_head);
}

void Builder::Mamba1() {
  const MambaSizes sizes(config_);
  Matrix("mamba.in_proj", 2 * sizes.inner, hidden_);
  Matrix("mamba.x_proj", sizes.rank + 2 * sizes.state_size, sizes.inner);
  Matrix("mamba.dt_proj", sizes.inner, sizes.rank);
  Matrix("mamba.out_proj", hidden_, sizes.inner);
  Vector("mamba.rest",
         sizes.inner * (sizes.kernel + sizes.state_size + 3) + sizes.rank + 2 * sizes.state_size);
}

void Builder::Mamba2() {
  const MambaSizes sizes(config_);
  Matrix("mamba.in_proj", sizes.inner + sizes.convolved() + sizes.heads, hidden_);
  Matrix("mamba.out_proj", hidden_, sizes.inner);
  Vector("mamba.rest", sizes.convolved() * (sizes.kernel + 1) + 3 * sizes.heads + sizes.inner);
}

// Where experts and ordinary MLPs have sizes of their own, "intermediate_size" is the ordinary ones', but for
// Llama 4.
uint64_t Builder::DenseWidth() const {
  return config_.Number({"intermediate_size_mlp", "intermediate_size", "ffn_hidden_size"});
}

void Builder::AddMlp(Mlp mlp) {
  // Granite's hybrids have an MLP that all tokens pass beside the experts, or instead.
  if (mlp == Mlp::kDense) DenseMlp("mlp", config_.Number({"shared_intermediate_size"}, DenseWidth()));
  if (mlp == Mlp::kExperts) Experts();
}

void Builder::DenseMlp(const char* name, uint64_t width) {
  const std::string prefix = std::string(name) + ".";
  family_.gated ? Matrix(prefix + "gate_up_proj", 2 * width, hidden_)
                : Matrix(prefix + "up_proj", width, hidden_);
  Matrix(prefix + "down_proj", hidden_, width);
  if (config_.Flag("mlp_bias") || config_.Flag("use_bias"))
    Vector(prefix + "bias", (family_.gated ? 2 : 1) * width + hidden_);
}

uint64_t SharedWidth(const Config& config, uint64_t expert) {
  const uint64_t width = config.Number(
      {"shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size"});
  if (width > 0) return width;
  if (config.type() == "llama4_text") return expert;
  return expert * config.Number({"n_shared_experts", "num_shared_experts", "moe_num_shared_experts",
                                 "num_shared_expert"});
}

void Builder::Experts() {
  const uint64_t count = config_.experts();
  const uint64_t width = config_.Number({"moe_intermediate_size", "intermediate_size"});
  const uint64_t ups = family_.gated ? 2 : 1;
  Vector("mlp.gate", count * hidden_);
  Add("mlp.experts.w13", Role::kExperts, ups * width, hidden_, count, true);
  Add("mlp.experts.w2", Role::kExperts, hidden_, width, count, true);
  if (config_.type() == "gpt_oss")
    Add("mlp.experts.bias", Role::kExperts, 1, ups * width + hidden_, count, false);
  const uint64_t shared = SharedWidth(config_, width);
  if (shared > 0) DenseMlp("mlp.shared_expert", shared);
}

}  // namespace

bool IsKnownArchitecture(const std::string& type) { return FindFamily(type) != nullptr; }

std::vector<std::string> KnownArchitectures() {
  std::vector<std::string> types;
  for (const Family& family : kFamilies) types.emplace_back(family.type);
  return types;
}

bool TiesEmbedding(const Config& config) {
  const Family* family = FindFamily(config.type());
  return config.Flag("tie_word_embeddings", family != nullptr && family->tied);
}

Mistake TensorsByFormula(const Config& config, const Quantization& quantization,
                         std::vector<Tensor>* tensors) {
  const Family* family = FindFamily(config.type());
  if (family == nullptr)
    return fmt::format("names the architecture '{}', which is not known here", config.type());
  Builder builder(config, quantization, *family, tensors);
  builder.Embedding();
  int number = 0;
  for (const LayerKind& kind : LayersOf(config)) builder.Layer(number++, kind);
  builder.Head();
  return builder.Finish();
}

}  // namespace gpuroom::model
