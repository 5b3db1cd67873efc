#include "model/config.h"

#include <fmt/format.h>

#include <algorithm>

namespace gpuroom::model {
namespace {

// The part that writes text, as models name it that also see or hear.
const Json* TextPart(const Json& whole) {
  for (const char* key : {"text_config", "llm_config", "language_config"}) {
    const Json* part = Find(whole, key);
    if (part != nullptr && part->is_object()) return part;
  }
  return nullptr;
}

Mistake CheckNumbers(const Config& config) {
  if (config.type().empty()) return "names no \"model_type\"; is it a model's config.json?";
  if (config.layers() == 0) return "has no \"num_hidden_layers\"; is it a language model's config.json?";
  if (config.layers() > kMostLayers)
    return fmt::format("has {} layers, more than any model; download it again", config.layers());
  if (config.hidden() == 0) return "has no \"hidden_size\"; is it a language model's config.json?";
  return "";
}

}  // namespace

Config::Config() = default;

uint64_t Config::Number(std::initializer_list<const char*> keys, uint64_t otherwise) const {
  for (const char* key : keys) {
    const std::optional<uint64_t> number = FindNumber(json_, key);
    if (number) return std::min(*number, kMostDimension);
  }
  return otherwise;
}

uint64_t Config::head_size() const {
  const uint64_t derived = heads() == 0 ? 0 : hidden() / heads();
  return Number({"head_dim", "attention_head_dim"}, derived);
}

uint64_t Config::float_bytes() const {
  const std::string type = Has("dtype") ? Text("dtype") : Text("torch_dtype");
  return type == "float32" ? 4 : 2;
}

Mistake ParseConfig(std::string_view text, Config* config) {
  Json whole;
  const Mistake mistake = ParseJson(text, &whole);
  if (!mistake.empty()) return mistake;
  if (!whole.is_object()) return "is no object; is it a model's config.json?";
  const Json* part = TextPart(whole);
  config->multimodal_ = part != nullptr;
  config->json_ = part != nullptr ? *part : whole;
  if (part != nullptr) {
    for (const auto& [key, value] : whole.items()) {
      if (!value.is_object() || key == "quantization_config") config->json_.emplace(key, value);
    }
  }
  config->type_ = FindText(config->json_, "model_type");
  const Json* names = Find(whole, "architectures");
  const bool named = names != nullptr && names->is_array() && !names->empty() && (*names)[0].is_string();
  config->architecture_ = named ? (*names)[0].get<std::string>() : config->type_;
  return CheckNumbers(*config);
}

}  // namespace gpuroom::model
