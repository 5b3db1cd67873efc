// A model's tensors by the formula of its architecture, for folders that have config.json and no weights yet.
// Matrices that engines load as one are one tensor: queries, keys and values, gate and up, all experts of a
// layer. Pure.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"
#include "model/model.h"
#include "model/quantization.h"

namespace gpuroom::model {

// Whether the formula knows this "model_type".
bool IsKnownArchitecture(const std::string& type);
// All that it knows, for sentences.
std::vector<std::string> KnownArchitectures();

// Appends the tensors to *tensors.
Mistake TensorsByFormula(const Config& config, const Quantization& quantization,
                         std::vector<Tensor>* tensors);

// Whether the output head is the embedding, as config.json says or as the architecture has it.
bool TiesEmbedding(const Config& config);

}  // namespace gpuroom::model
