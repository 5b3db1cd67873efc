// `gpuroom plan`: whether a model fits on a machine, where its parts would lie and how fast it would be.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/limit.h"
#include "cli/exit_codes.h"
#include "cli/plan_layout.h"
#include "cli/plan_machine.h"

namespace gpuroom {

struct PlanOptions {
  std::string model;
  Engine engine = Engine::kVllm;
  std::optional<uint64_t> context;  // tokens; empty: 8192, or the model's most
  uint64_t batch = 1;
  uint64_t tensor_parallel = 1;
  std::string dtype = "auto";
  std::string kv_dtype = "auto";
  std::optional<double> target_tokens;  // a second
  MachineChoice machine;
  std::optional<Limit> hbm_limit;
  std::optional<uint64_t> host_limit;
  bool json = false;
  bool help = false;
};

Failure ParsePlan(const std::vector<std::string>& arguments, PlanOptions* options);

// `arguments` follow the word plan. Returns an exit status.
int PlanCommand(const std::vector<std::string>& arguments);

}  // namespace gpuroom
