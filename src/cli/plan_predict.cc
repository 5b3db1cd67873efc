#include "cli/plan_predict.h"

#include <algorithm>

namespace gpuroom {
namespace {

using model::Model;
using model::Role;
using model::Tensor;

// Large products reach so much of what a GPU is published to: 55,789 tokens a second of 5.35 billion
// parameters on an H200 (docs/measurements.md).
constexpr double kProducts = 0.6;
// Copies reach more of the link than kernels that read it, 55.4 against 51.3 GB/s.
constexpr double kCopies = 1.08;
// Products read weights on the host once for every so many tokens, and begin with half a reading more:
// 256, 512, 1,024 and 2,000 tokens took 1.5, 2.9, 4.4 and 8.1 readings.
constexpr double kTileTokens = 256;

double Readings(double tokens) { return std::max(1.0, 0.5 + tokens / kTileTokens); }

StepReads Split(const PlacedPart& part, double share) {
  return {static_cast<double>(part.bytes - part.host) * share, static_cast<double>(part.host) * share};
}

StepReads WeightReads(const Model& model, const PlanLayout& layout, uint64_t tokens) {
  StepReads sum;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const StepReads reads = Split(layout.tensors[i], ReadShare(model, model.tensors[i], tokens));
    sum.hbm += reads.hbm;
    sum.host += reads.host;
  }
  return sum;
}

// Floating-point operations of the prompts: two for each parameter and token, and attention over half of the
// context on average.
double Operations(const Model& model, const PlanDemand& demand) {
  const auto tokens = static_cast<double>(demand.context * demand.batch);
  const uint64_t head = Parameters(model, model.tied ? Role::kEmbedding : Role::kHead);
  const double parameters = static_cast<double>(ActiveParameters(model) - head);
  double attention = 0;
  for (const model::CacheLayer& layer : model.cache) {
    if (layer.elements == 0) continue;
    const uint64_t seen = layer.window > 0 ? std::min(layer.window, demand.context) : demand.context;
    attention += 4.0 * static_cast<double>(model.query_width) * static_cast<double>(seen) / 2;
  }
  return tokens * (2 * parameters + attention) / static_cast<double>(demand.tensor_parallel);
}

// Seconds in which a step of `tokens` gets what lies on the host: staged by copies under vLLM's plug-in, read
// by products elsewhere, each expert's by those of its tokens.
double LinkSeconds(const Model& model, const PlanDemand& demand, const PlanLayout& layout, double link,
                   uint64_t tokens) {
  if (demand.engine == Engine::kVllm) return WeightReads(model, layout, tokens).host / (link * kCopies);
  double bytes = 0;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const Tensor& tensor = model.tensors[i];
    const bool experts = tensor.role == Role::kExperts && model.experts > 0;
    const double part =
        experts ? static_cast<double>(model.experts_per_token) / static_cast<double>(model.experts) : 1;
    const bool by_row = tensor.role == Role::kEmbedding;
    const double readings = by_row ? 1 : Readings(static_cast<double>(tokens) * part);
    bytes += static_cast<double>(layout.tensors[i].host) * ReadShare(model, tensor, tokens) * readings;
  }
  return bytes / link;
}

void PredictPrefill(const Model& model, const PlanDemand& demand, const PlanLayout& layout,
                    const PlanMachine& machine, Prediction* prediction) {
  const uint64_t tokens = demand.context * demand.batch;
  const uint64_t step = std::max<uint64_t>(1, std::min(layout.step_tokens, tokens));
  const uint64_t steps = (tokens + step - 1) / step;
  const auto host = static_cast<double>(machine.speeds.host);
  prediction->prefill_link = static_cast<double>(steps) * LinkSeconds(model, demand, layout, host, step);
  if (machine.bf16_flops > 0)
    prediction->prefill_compute = Operations(model, demand) / (machine.bf16_flops * kProducts);
  // Copies run beside products; where products read the host themselves, both take their time one after the
  // other.
  prediction->prefill_seconds = demand.engine == Engine::kVllm
                                    ? std::max(prediction->prefill_link, prediction->prefill_compute)
                                    : prediction->prefill_link + prediction->prefill_compute;
  if (prediction->prefill_seconds > 0)
    prediction->prefill_tokens = static_cast<double>(tokens) / prediction->prefill_seconds;
}

}  // namespace

double ReadShare(const Model& model, const Tensor& tensor, uint64_t tokens) {
  switch (tensor.role) {
    case Role::kEmbedding: {
      if (model.tied || model.vocabulary == 0) return 1;
      return std::min(1.0, static_cast<double>(tokens) / static_cast<double>(model.vocabulary));
    }
    case Role::kExperts: return model::ExpertShare(model, tokens);
    case Role::kVision:
    case Role::kDraft: return 0;
    case Role::kDense:
    case Role::kHead: return 1;
  }
  return 1;
}

Prediction Predict(const Model& model, const PlanDemand& demand, const PlanLayout& layout,
                   const PlanMachine& machine) {
  Prediction prediction;
  prediction.weights = WeightReads(model, layout, demand.batch);
  prediction.cache = Split(layout.cache, 1);
  const double hbm = prediction.weights.hbm + prediction.cache.hbm;
  const double host = prediction.weights.host + prediction.cache.host;
  // Whole tensors lie in one memory or the other, so that one is read after the other.
  prediction.decode_seconds =
      hbm / static_cast<double>(machine.speeds.device) + host / static_cast<double>(machine.speeds.host);
  if (prediction.decode_seconds > 0)
    prediction.decode_tokens = static_cast<double>(demand.batch) / prediction.decode_seconds;
  const double all = static_cast<double>(layout.InHbm() + layout.OnHost());
  const bool spilled = static_cast<double>(layout.OnHost()) >= 0.15 * all;
  prediction.decode_is_bound =
      !spilled || demand.engine == Engine::kTransformers || demand.tensor_parallel > 1;
  PredictPrefill(model, demand, layout, machine, &prediction);
  return prediction;
}

}  // namespace gpuroom
