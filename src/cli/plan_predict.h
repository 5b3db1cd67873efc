// How fast a layout is read: seconds of a step, from bytes and the speeds of memory. Pure.
#pragma once

#include <cstdint>

#include "cli/plan_layout.h"
#include "cli/plan_machine.h"
#include "model/model.h"

namespace gpuroom {

// Bytes that one step reads.
struct StepReads {
  double hbm = 0;
  double host = 0;
};

struct Prediction {
  StepReads weights;  // of a step that makes one token for each sequence
  StepReads cache;
  double decode_seconds = 0;     // of that step
  double decode_tokens = 0;      // a second, of all sequences
  double prefill_seconds = 0;    // of all prompts; 0: not known
  double prefill_tokens = 0;     // a second
  double prefill_compute = 0;    // of prefill_seconds, what products take; 0: not known
  double prefill_link = 0;       // and what comes over the link
  bool decode_is_bound = false;  // an upper bound: memory is not what sets the pace, or not by itself
};

// Of prompts of demand.context tokens, and of the token after them.
Prediction Predict(const model::Model& model, const PlanDemand& demand, const PlanLayout& layout,
                   const PlanMachine& machine);

// What one step reads of a tensor of the model: a part, 0 to 1.
double ReadShare(const model::Model& model, const model::Tensor& tensor, uint64_t tokens);

}  // namespace gpuroom
