#include "model/names.h"

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "base/temporary.h"

namespace gpuroom::model {
namespace {

std::vector<std::string_view> Parts(std::string_view name) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t dot = name.find('.');
    parts.push_back(name.substr(0, dot));
    if (dot == std::string_view::npos) return parts;
    name.remove_prefix(dot + 1);
  }
}

std::vector<std::string_view> Parts(TemporaryString auto&& name) = delete;

bool IsNumber(std::string_view part) {
  return !part.empty() && part.size() <= 5 &&
         std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
}

int ToNumber(std::string_view part) {
  int number = 0;
  for (const char c : part) number = number * 10 + (c - '0');
  return number;
}

bool IsOneOf(std::string_view part, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), part) != words.end();
}

// The matrix's name among those that are loaded as one.
std::string_view FusedPart(std::string_view part, bool expert) {
  if (IsOneOf(part, {"q_proj", "k_proj", "v_proj"})) return "qkv_proj";
  if (IsOneOf(part, {"gate_proj", "up_proj"})) return expert ? "w13" : "gate_up_proj";
  if (expert && IsOneOf(part, {"w1", "w3", "gate_up_proj"})) return "w13";
  if (expert && IsOneOf(part, {"down_proj"})) return "w2";
  return part;
}

std::string_view FusedPart(TemporaryString auto&& part, bool expert) = delete;

Role RoleOf(const std::vector<std::string_view>& parts, bool expert, int layer, uint64_t layers) {
  const auto has = [&parts](std::initializer_list<std::string_view> words) {
    return std::any_of(parts.begin(), parts.end(),
                       [words](std::string_view part) { return IsOneOf(part, words); });
  };
  if (has({"mtp", "mtp_layers", "nextn"}) ||
      (layer >= 0 && layers > 0 && static_cast<uint64_t>(layer) >= layers))
    return Role::kDraft;
  if (has({"vision_tower", "vision_model", "visual", "vision_embed_tokens", "multi_modal_projector",
           "mm_projector", "audio_tower", "embed_vision", "embed_audio", "image_newline"}))
    return Role::kVision;
  if (has({"embed_tokens", "embeddings", "wte", "tok_embeddings", "word_embeddings"}) && layer < 0)
    return Role::kEmbedding;
  if (has({"lm_head", "embed_out"})) return Role::kHead;
  return expert ? Role::kExperts : Role::kDense;
}

}  // namespace

TensorName ReadName(std::string_view name, uint64_t layers) {
  const std::vector<std::string_view> parts = Parts(name);
  TensorName read;
  bool expert = false;
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool number = IsNumber(parts[i]);
    const bool of_layer =
        number && read.layer < 0 && i > 0 && IsOneOf(parts[i - 1], {"layers", "h", "blocks"});
    if (of_layer) read.layer = ToNumber(parts[i]);
    if (number && expert) continue;  // an expert's own number
    expert = expert || parts[i] == "experts";
    // What belongs to a matrix (weight, scales, zero points, packed numbers) is loaded beside it.
    if (i + 1 == parts.size() && i > 0) break;
    if (!read.fused.empty()) read.fused += '.';
    read.fused += FusedPart(parts[i], expert);
  }
  // "experts.gate_up_proj_blocks" of gpt-oss has no part for what belongs to it.
  if (!parts.empty() && expert && parts.back().find("_proj") != std::string_view::npos) {
    read.fused += parts.back().starts_with("down") ? ".w2" : ".w13";
  }
  read.role = RoleOf(parts, expert, read.layer, layers);
  return read;
}

TensorName ReadGgufName(std::string_view name) {
  const std::vector<std::string_view> parts = Parts(name);
  TensorName read;
  if (parts.size() > 2 && parts[0] == "blk" && IsNumber(parts[1])) read.layer = ToNumber(parts[1]);
  const std::string_view what = parts[read.layer >= 0 ? 2 : 0];
  if (what == "token_embd") read.role = Role::kEmbedding;
  if (what == "output") read.role = Role::kHead;
  if (what.ends_with("_exps")) read.role = Role::kExperts;
  if (what == "nextn") read.role = Role::kDraft;
  read.fused = std::string(name);
  return read;
}

}  // namespace gpuroom::model
