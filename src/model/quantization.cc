#include "model/quantization.h"

#include <algorithm>

namespace gpuroom::model {
namespace {

constexpr size_t kMostSpared = 1024;
constexpr size_t kMostPattern = 256;

// Matrices that are loaded as one, and the name of that.
struct Fused {
  std::string_view part;
  std::string_view whole;
};
constexpr Fused kFused[] = {{"q_proj", "qkv_proj"},
                            {"k_proj", "qkv_proj"},
                            {"v_proj", "qkv_proj"},
                            {"gate_proj", "gate_up_proj"},
                            {"up_proj", "gate_up_proj"}};

uint64_t Parts(uint64_t whole, uint64_t part) { return part == 0 ? 1 : (whole + part - 1) / part; }

void Replace(std::string* text, std::string_view from, std::string_view to) {
  for (size_t at = text->find(from); at != std::string::npos; at = text->find(from, at + to.size())) {
    text->replace(at, from.size(), to);
  }
}

// A pattern in the names that this folder gives to layers: "re:.*q_proj$" is "*qkv_proj".
std::string Pattern(std::string text) {
  if (text.starts_with("re:")) {
    text.erase(0, 3);
    text.erase(
        std::remove_if(text.begin(), text.end(), [](char c) { return c == '\\' || c == '^' || c == '$'; }),
        text.end());
    Replace(&text, ".*", "*");
  }
  for (const auto& [part, whole] : kFused) {
    if (!text.ends_with(part) || text.ends_with(whole)) continue;
    text.replace(text.size() - part.size(), std::string::npos, whole);
  }
  return text;
}

// `name` has `pattern` at its beginning, which ends at a dot or at the end of the name.
bool Begins(std::string_view name, std::string_view pattern) {
  size_t n = 0;
  size_t p = 0;
  size_t star = std::string_view::npos;
  size_t retry = 0;
  for (;;) {
    if (p == pattern.size() && (n == name.size() || name[n] == '.')) return true;
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      retry = n;
    } else if (p < pattern.size() && n < name.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos && retry < name.size()) {
      p = star + 1;
      n = ++retry;
    } else {
      return false;
    }
  }
}

}  // namespace

bool MatchesModule(std::string_view name, std::string_view pattern) {
  for (;;) {
    if (Begins(name, pattern)) return true;
    const size_t dot = name.find('.');
    if (dot == std::string_view::npos) return false;
    name.remove_prefix(dot + 1);
  }
}

Quantization Quantization::Of(const Config& config) {
  Quantization q;
  const Json* json = Find(config.json(), "quantization_config");
  if (json == nullptr || !json->is_object()) return q;
  q.method_ = FindText(*json, "quant_method");
  if (q.method_.empty()) q.method_ = FindText(*json, "quant_algo");
  if (q.method_.empty()) q.method_ = "unnamed";
  q.ReadGroups(*json);
  q.ReadSpared(*json);
  return q;
}

// Bits, groups and scales by method; bits_ stays 0 for one that is not known.
void Quantization::ReadGroups(const Json& json) {
  const auto set = [this](uint64_t bits, uint64_t group, uint64_t scale_bits) {
    bits_ = std::min<uint64_t>(bits, 32);
    group_ = group;
    scale_bits_ = scale_bits;
  };
  const Json* block = Find(json, "weight_block_size");
  const std::string algorithm = FindText(json, "quant_algo");
  if (method_ == "fp8" || method_ == "fbgemm_fp8") {
    const bool blocks = block != nullptr && block->is_array() && block->size() == 2;
    set(8, blocks ? 128 : 0, 32);
    if (blocks) group_rows_ = 128;
  } else if (method_ == "awq" || method_ == "gptq") {
    const uint64_t bits = FindNumber(json, "bits").value_or(FindNumber(json, "w_bit").value_or(4));
    set(bits, FindNumber(json, "group_size").value_or(0), 16 + bits);  // a half and a zero point
  } else if (method_ == "mxfp4") {
    set(4, 32, 8);
  } else if (method_ == "bitsandbytes") {
    FindFlag(json, "load_in_4bit") ? set(4, 64, FindFlag(json, "bnb_4bit_use_double_quant") ? 8 : 32)
                                   : set(8, 0, 32);
  } else if (method_ == "modelopt" || method_ == "NVFP4" || method_ == "FP8") {
    const bool four = algorithm == "NVFP4" || method_ == "NVFP4";
    four ? set(4, 16, 8) : set(8, 0, 32);
  } else if (method_ == "compressed-tensors") {
    const Json* groups = Find(json, "config_groups");
    const bool some = groups != nullptr && groups->is_object() && !groups->empty();
    const Json* weights = some ? Find(groups->front(), "weights") : nullptr;
    if (weights == nullptr) return;
    const bool nvfp4 = FindText(json, "format") == "nvfp4-pack-quantized";
    set(FindNumber(*weights, "num_bits").value_or(0), FindNumber(*weights, "group_size").value_or(0),
        nvfp4 ? 8 : 16);
  }
}

void Quantization::ReadSpared(const Json& json) {
  for (const char* key :
       {"modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "llm_int8_skip_modules"}) {
    const Json* list = Find(json, key);
    if (list == nullptr || !list->is_array()) continue;
    for (const Json& entry : *list) {
      if (!entry.is_string() || spared_.size() >= kMostSpared) continue;
      const std::string text = entry.get<std::string>();
      if (!text.empty() && text.size() <= kMostPattern) spared_.push_back(Pattern(text));
    }
  }
}

bool Quantization::Spares(std::string_view name) const {
  if (method_.empty()) return true;
  return std::any_of(spared_.begin(), spared_.end(),
                     [name](const std::string& pattern) { return MatchesModule(name, pattern); });
}

uint64_t Quantization::MatrixBytes(std::string_view name, uint64_t rows, uint64_t columns,
                                   uint64_t float_bytes) const {
  if (Spares(name)) return rows * columns * float_bytes;
  const uint64_t scales = Parts(rows, group_rows_) * Parts(columns, group_);
  return Parts(rows * columns * bits_, 8) + Parts(scales * scale_bits_, 8);
}

}  // namespace gpuroom::model
