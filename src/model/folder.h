// Reads a model from where it lies: a folder of Hugging Face's files, or one file of it, or a GGUF file.
// Reads headers and config.json alone, and no network.
#pragma once

#include <string>

#include "model/config.h"
#include "model/model.h"

namespace gpuroom::model {

// `path` is a folder, config.json, a .safetensors or a .gguf file. The sentence of a mistake is whole.
Mistake ReadModel(const std::string& path, Model* model);

// The model that config.json alone describes. The sentence begins with the file's name.
Mistake ModelOfConfig(const Config& config, Model* model);

}  // namespace gpuroom::model
