// A model as far as memory and links are concerned: which tensors it has, how large they are and how a token
// reads them, and what its cache takes. The readers beside this file make it; `gpuroom plan` uses it. Plain
// values; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace gpuroom::model {

// How a step of the model reads a tensor.
enum class Role : uint8_t {
  kEmbedding,  // one row for each token
  kDense,      // all of it in each step: attention, the layers' ordinary MLPs, norms, routers
  kExperts,    // the experts that the step's tokens are routed to
  kHead,       // all of it in each step, after the last layer
  kVision,     // pictures and sound: in memory, and not read for a token of text
  kDraft,      // layers that predict further tokens; engines leave them out unless they are asked for
};
inline constexpr size_t kRoles = 6;
const char* RoleName(Role role);

struct Tensor {
  std::string name;  // as the checkpoint has it; of experts, without the expert's number
  Role role = Role::kDense;
  int layer = -1;           // -1: it belongs to no layer
  uint64_t parameters = 0;  // quantised: those that it stands for
  uint64_t bytes = 0;       // with scales
  bool floating = false;    // plain floating point of 16 or 32 bits, which engines convert to their dtype
};

// What one layer keeps of the tokens that it has seen.
struct CacheLayer {
  uint64_t elements = 0;           // for each token
  uint64_t expanded_elements = 0;  // the same in engines that expand latent attention; 0: it is not latent
  uint64_t window = 0;             // the last so many tokens are kept; 0: all
  uint64_t state_bytes = 0;        // of a sequence, however long: linear attention and Mamba
};

struct Model {
  std::string architecture;          // "LlamaForCausalLM", or "llama" of a GGUF file
  std::string quantization;          // "fp8", "awq", ...; empty: none
  std::string source;                // where the tensors' sizes are from, in words
  std::vector<std::string> remarks;  // what the reader had to assume, a sentence each
  std::vector<Tensor> tensors;       // in the order of use
  std::vector<CacheLayer> cache;     // by layer
  uint64_t hidden = 0;
  uint64_t intermediate = 0;  // the widest MLP that one token passes, its experts together
  uint64_t query_width = 0;   // heads times their size
  uint64_t vocabulary = 0;
  uint64_t kv_heads = 0;  // among which tensor parallelism splits the cache; 0: it cannot
  uint64_t experts = 0;   // of a layer; 0: there are none
  uint64_t experts_per_token = 0;
  uint64_t longest_context = 0;  // tokens; 0: not known
  bool tied = false;             // the output head is the embedding
};

// Sizes beyond these are mistakes in a file. Sums over a model's tensors stay within 64 bits.
inline constexpr uint64_t kMostTensorBytes = uint64_t{1} << 46;  // 64 TiB
inline constexpr size_t kMostTensors = 100'000;                  // fused experts count once

uint64_t Bytes(const Model& model, Role role);
uint64_t Parameters(const Model& model, Role role);
// Without what engines leave out.
uint64_t LoadedBytes(const Model& model);
uint64_t LoadedParameters(const Model& model);
// Those that one token of text is multiplied with.
uint64_t ActiveParameters(const Model& model);

// The part of a layer's experts that a step of `tokens` tokens reads, where each token chooses
// `experts_per_token` of them evenly. 0 to 1.
double ExpertShare(const Model& model, uint64_t tokens);

// What a mistake in a file reads like: the end of a sentence that begins with the file's name, with the fix.
// Empty: there is none.
using Mistake = std::string;

}  // namespace gpuroom::model
