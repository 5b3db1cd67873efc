// Sizes of the parts that keep a state of fixed size instead of a cache: gated delta rule and Mamba, as
// config.json gives them. Pure.
#pragma once

#include <cstdint>

#include "model/config.h"

namespace gpuroom::model {

// Qwen3-Next's gated delta rule.
struct LinearSizes {
  explicit LinearSizes(const Config& config)
      : value_heads(config.Number({"linear_num_value_heads"})),
        key(config.Number({"linear_num_key_heads"}) * config.Number({"linear_key_head_dim"})),
        key_head(config.Number({"linear_key_head_dim"})),
        value_head(config.Number({"linear_value_head_dim"})),
        kernel(config.Number({"linear_conv_kernel_dim"}, 4)) {}
  uint64_t value() const { return value_heads * value_head; }
  uint64_t convolved() const { return 2 * key + value(); }
  uint64_t state() const { return value_heads * key_head * value_head; }

  uint64_t value_heads;
  uint64_t key;
  uint64_t key_head;
  uint64_t value_head;
  uint64_t kernel;
};

// Both versions of Mamba.
struct MambaSizes {
  explicit MambaSizes(const Config& config)
      : heads(config.Number({"mamba_num_heads", "mamba_n_heads"})),
        inner(heads > 0 ? heads * config.Number({"mamba_head_dim", "mamba_d_head"}, 64)
                        : config.Number({"mamba_expand", "expand"}, 2) * config.hidden()),
        groups(config.Number({"n_groups", "mamba_n_groups", "mamba_num_groups"}, 1)),
        state_size(config.Number({"ssm_state_size", "mamba_d_state"}, 16)),
        kernel(config.Number({"conv_kernel", "mamba_d_conv"}, 4)),
        rank(config.Number({"mamba_dt_rank"}, (config.hidden() + 15) / 16)) {}
  uint64_t convolved() const { return inner + 2 * groups * state_size; }  // of version 2
  uint64_t state() const { return inner * state_size; }

  uint64_t heads;
  uint64_t inner;
  uint64_t groups;
  uint64_t state_size;
  uint64_t kernel;
  uint64_t rank;
};

}  // namespace gpuroom::model
