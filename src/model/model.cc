#include "model/model.h"

#include <cmath>

namespace gpuroom::model {
namespace {

bool IsLoaded(const Tensor& tensor) { return tensor.role != Role::kDraft; }

}  // namespace

const char* RoleName(Role role) {
  switch (role) {
    case Role::kEmbedding: return "embeddings";
    case Role::kDense: return "dense";
    case Role::kExperts: return "experts";
    case Role::kHead: return "output head";
    case Role::kVision: return "vision";
    case Role::kDraft: return "draft layers";
  }
  return "dense";
}

uint64_t Bytes(const Model& model, Role role) {
  uint64_t bytes = 0;
  for (const Tensor& tensor : model.tensors) bytes += tensor.role == role ? tensor.bytes : 0;
  return bytes;
}

uint64_t Parameters(const Model& model, Role role) {
  uint64_t parameters = 0;
  for (const Tensor& tensor : model.tensors) parameters += tensor.role == role ? tensor.parameters : 0;
  return parameters;
}

uint64_t LoadedBytes(const Model& model) {
  uint64_t bytes = 0;
  for (const Tensor& tensor : model.tensors) bytes += IsLoaded(tensor) ? tensor.bytes : 0;
  return bytes;
}

uint64_t LoadedParameters(const Model& model) {
  uint64_t parameters = 0;
  for (const Tensor& tensor : model.tensors) parameters += IsLoaded(tensor) ? tensor.parameters : 0;
  return parameters;
}

uint64_t ActiveParameters(const Model& model) {
  const double share = ExpertShare(model, 1);
  const auto experts = static_cast<double>(Parameters(model, Role::kExperts));
  const uint64_t head = Parameters(model, model.tied ? Role::kEmbedding : Role::kHead);
  return Parameters(model, Role::kDense) + head + static_cast<uint64_t>(experts * share);
}

double ExpertShare(const Model& model, uint64_t tokens) {
  if (model.experts == 0 || model.experts_per_token >= model.experts) return 1;
  const double missed = 1 - static_cast<double>(model.experts_per_token) / static_cast<double>(model.experts);
  return 1 - std::pow(missed, static_cast<double>(tokens));
}

}  // namespace gpuroom::model
