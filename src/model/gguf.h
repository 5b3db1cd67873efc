// The header of a GGUF file: what llama.cpp knows of the model, and names, types and sizes of its tensors.
// What it says is checked, never believed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/header_source.h"
#include "model/model.h"

namespace gpuroom::model {

// Numbers that are not negative, one or a list, and texts. What else a file says is passed over.
struct GgufValue {
  std::string text;
  std::vector<uint64_t> numbers;
};

struct GgufHeader {
  std::map<std::string, GgufValue> values;
  std::vector<Tensor> tensors;  // in the order of the file

  // The first number that `key` has; `otherwise` where it has none.
  uint64_t Number(const std::string& key, uint64_t otherwise = 0) const;
  // The same of a layer, where `key` may have one for each.
  uint64_t OfLayer(const std::string& key, uint64_t layer, uint64_t otherwise = 0) const;
  std::string Text(const std::string& key) const;
};

Mistake ReadGguf(HeaderSource* source, GgufHeader* header);

// The model of one file's header, or of the headers of all parts of one file, `tensors` of which were put
// together.
Mistake ModelOfGguf(const GgufHeader& header, Model* model);

}  // namespace gpuroom::model
