// The options of PyTorch's UVM patches in its allocator configuration, such as
//   PYTORCH_CUDA_ALLOC_CONF=use_uvm:True,uvm_oversubscription_ratio:5.0,uvm_access_pattern:gpu_first
// A stock PyTorch refuses them, so `gpuroom run` takes them out, means the same by its own
// options, and passes the rest on. Pure functions over text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cli/exit_codes.h"

namespace gpuroom {

struct AllocConf {
  bool ours = false;  // one of the three keys was there
  std::optional<bool> use_uvm;
  std::optional<std::string> ratio;    // as ParseRatio takes it
  std::optional<std::string> pattern;  // a policy's name
  std::string rest;                    // the other entries byte for byte, in order; "": none
};

// Reads `text`, the value of `variable`, as PyTorch does: entries KEY:VALUE between commas that stand
// outside brackets, spaces ignored, the last of a repeated key counts. Entries with other keys are
// PyTorch's business, whatever they look like. kExitUsage for a bad value, which names the good ones.
Failure ParseAllocConf(const std::string& variable, std::string_view text, AllocConf* conf);

}  // namespace gpuroom
