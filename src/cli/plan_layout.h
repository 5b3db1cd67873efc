// Where each part of a model would lie on one GPU of a machine, by what decides at run time: range's planner
// (range/plan.h), and for vLLM the plug-in's own code (python/gpuroom/vllm), which is run for it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/exit_codes.h"
#include "cli/plan_machine.h"
#include "model/model.h"

namespace gpuroom {

enum class Engine : uint8_t { kVllm, kTransformers };

// What is asked for, of one GPU of `tensor_parallel`.
struct PlanDemand {
  Engine engine = Engine::kVllm;
  uint64_t context = 0;          // tokens of each sequence
  uint64_t batch = 1;            // sequences
  uint64_t tensor_parallel = 1;  // GPUs among which the model is split
  uint64_t cache_element = 2;    // bytes of a number in the KV cache
  uint64_t hbm = 0;              // bytes that may be used of each GPU's
  uint64_t host = 0;             // bytes of host memory for each GPU
};

// One tensor of the model, or the KV cache, on one GPU.
struct PlacedPart {
  uint64_t bytes = 0;
  uint64_t host = 0;  // of these, bytes on the host
};

struct PlanLayout {
  std::vector<PlacedPart> tensors;  // as Model::tensors
  PlacedPart cache;
  uint64_t activations = 0;  // bytes of HBM that steps need beside weights and cache: an estimate
  uint64_t reserve = 0;      // bytes of HBM kept for small allocations, contexts and workspaces
  uint64_t ring = 0;         // bytes of HBM through which vLLM's weights are staged
  uint64_t short_of = 0;     // bytes for which there is no room anywhere
  uint64_t step_tokens = 0;  // tokens that one step of prefill takes at most

  bool fits() const { return short_of == 0; }
  uint64_t OnHost() const;
  uint64_t InHbm() const;  // of weights and cache
};

Failure LayOut(const model::Model& model, const PlanDemand& demand, PlanLayout* layout);

// Bytes of the KV cache of all sequences on one GPU; those that a step reads are the same.
uint64_t CacheOnOneGpu(const model::Model& model, const PlanDemand& demand);

}  // namespace gpuroom
