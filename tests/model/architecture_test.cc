// Public models by the formula of their architectures: parameters and cache as published.
#include "model/architecture.h"

#include <gtest/gtest.h>

#include <string>

#include "base/size.h"
#include "model/cache.h"
#include "model/folder.h"

namespace gpuroom::model {
namespace {

Model Read(const std::string& name) {
  Model model;
  const Mistake mistake = ReadModel(GPUROOM_MODELS + name, &model);
  EXPECT_EQ(mistake, "");
  return model;
}

struct Published {
  const char* name;
  double parameters;
  double active;  // 0: not published
  const char* where;
};

// "card": the count that huggingface.co shows for the model's safetensors files, or its model card.
constexpr Published kPublished[] = {
    {"llama-3.1-8b", 8'030'261'248, 0, "card of meta-llama/Llama-3.1-8B"},
    {"mistral-7b", 7'241'732'096, 0, "card of mistralai/Mistral-7B-v0.1"},
    {"phi-4", 14'659'507'200, 0, "card of microsoft/phi-4"},
    {"mixtral-8x7b", 46'702'792'704, 12.9e9,
     "card of mistralai/Mixtral-8x7B-v0.1; arXiv 2401.04088: 13B active"},
    {"qwen2.5-7b", 7'615'616'512, 0, "card of Qwen/Qwen2.5-7B"},
    {"qwen3-235b-a22b", 235'093'634'560, 22e9, "card of Qwen/Qwen3-235B-A22B"},
    {"deepseek-v3", 671e9, 37e9,
     "arXiv 2412.19437: 671B, 37B active; the draft layer is counted apart there, too"},
    {"deepseek-v2-lite", 15'706'484'224, 0, "card of deepseek-ai/DeepSeek-V2-Lite"},
    {"gpt-oss-120b", 116.83e9, 5.13e9, "arXiv 2508.10925, table 1"},
    {"gpt-oss-20b", 20.91e9, 3.61e9, "arXiv 2508.10925, table 1"},
    {"gemma-2-9b", 9'241'705'984, 0, "card of google/gemma-2-9b"},
    {"gemma-3-27b", 27.016e9, 0, "arXiv 2503.19786, table 1: 1,416M and 25,600M, without the vision encoder"},
    {"qwen3-next-80b-a3b", 80e9, 0, "card of Qwen/Qwen3-Next-80B-A3B-Instruct"},
    {"jamba-v0.1", 51'570'323'328, 0, "card of ai21labs/Jamba-v0.1"},
    {"nemotron-h-8b", 8.1e9, 0, "arXiv 2504.03624: 8.1B"},
};

TEST(ModelArchitecture, ParametersAreThosePublished) {
  for (const Published& published : kPublished) {
    const auto parameters = static_cast<double>(LoadedParameters(Read(published.name)));
    EXPECT_NEAR(parameters / published.parameters, 1, 0.005) << published.name << ": " << published.where;
  }
}

TEST(ModelArchitecture, ActiveParametersAreThosePublished) {
  for (const Published& published : kPublished) {
    if (published.active == 0) continue;
    const auto active = static_cast<double>(ActiveParameters(Read(published.name)));
    EXPECT_NEAR(active / published.active, 1, 0.025) << published.name << ": " << published.where;
  }
}

// Counted one by one, these models' formulas are exact.
TEST(ModelArchitecture, TheCommonArchitecturesAreExact) {
  EXPECT_EQ(LoadedParameters(Read("llama-3.1-8b")), 8'030'261'248);
  EXPECT_EQ(LoadedParameters(Read("mixtral-8x7b")), 46'702'792'704);
  EXPECT_EQ(LoadedParameters(Read("qwen2.5-7b")), 7'615'616'512);
  EXPECT_EQ(LoadedParameters(Read("qwen3-235b-a22b")), 235'093'634'560);
  EXPECT_EQ(LoadedParameters(Read("gemma-2-9b")), 9'241'705'984);
}

TEST(ModelArchitecture, QuantisedBytesAreThoseOfTheCheckpoints) {
  // arXiv 2508.10925, table 1: 60.8 and 12.8 GiB.
  EXPECT_NEAR(static_cast<double>(LoadedBytes(Read("gpt-oss-120b"))) / (60.8 * kGiB), 1, 0.005);
  EXPECT_NEAR(static_cast<double>(LoadedBytes(Read("gpt-oss-20b"))) / (12.8 * kGiB), 1, 0.005);
  // A byte a parameter, with a scale of 4 bytes for 128 x 128; embedding and head are not quantised.
  const Model v3 = Read("deepseek-v3");
  const double unquantised = 2.0 * 129280 * 7168;
  EXPECT_NEAR(static_cast<double>(LoadedBytes(v3)),
              static_cast<double>(LoadedParameters(v3)) * (1 + 4.0 / 16384) + unquantised, 0.002 * 671e9);
}

uint64_t CacheOfOne(const Model& model, uint64_t context, CacheFormat format = {}) {
  return CacheBytes(model.cache, context, format);
}

TEST(ModelCache, BytesPerTokenAreThosePublished) {
  EXPECT_EQ(CacheOfOne(Read("llama-3.1-8b"), 1), 128 * kKiB);
  // arXiv 2505.09343, table 1: 70.272 KB.
  EXPECT_EQ(CacheOfOne(Read("deepseek-v3"), 1), 70'272);
  EXPECT_EQ(CacheOfOne(Read("deepseek-v3"), 1, {.element_bytes = 1}), 35'136);
  // Engines that expand latent attention keep each head's keys and values.
  EXPECT_EQ(CacheOfOne(Read("deepseek-v3"), 1, {.expands_latent = true}),
            uint64_t{61} * 128 * (192 + 128) * 2);
}

TEST(ModelCache, WindowsEndTheGrowth) {
  const Model mistral = Read("mistral-7b");
  EXPECT_EQ(CacheOfOne(mistral, 4096), uint64_t{4096} * 128 * kKiB);
  EXPECT_EQ(CacheOfOne(mistral, 32768), CacheOfOne(mistral, 4096));
  EXPECT_EQ(CacheOfOne(mistral, 32768, {.keeps_windows = false}), uint64_t{32768} * 128 * kKiB);
  // Every second layer of gpt-oss, five of six of Gemma 3.
  const uint64_t layer = 2 * 8 * 64 * 2;
  EXPECT_EQ(CacheOfOne(Read("gpt-oss-120b"), 8192), 18 * layer * (128 + 8192));
  const uint64_t gemma_layer = 2 * 16 * 128 * 2;
  EXPECT_EQ(CacheOfOne(Read("gemma-3-27b"), 8192), gemma_layer * (uint64_t{52} * 1024 + uint64_t{10} * 8192));
}

TEST(ModelCache, StatesDoNotGrow) {
  const Model next = Read("qwen3-next-80b-a3b");
  EXPECT_EQ(CacheOfOne(next, 2) - CacheOfOne(next, 1),
            uint64_t{12} * 2 * 2 * 256 * 2);  // 12 of 48 layers look back
  const uint64_t state = 32 * 128 * 128 * 4 + 8192 * 3 * 2;
  EXPECT_EQ(CacheOfOne(next, 0), 36 * state);
  const Model jamba = Read("jamba-v0.1");
  EXPECT_EQ(CacheOfOne(jamba, 2) - CacheOfOne(jamba, 1), uint64_t{4} * 2 * 8 * 128 * 2);
  const Model nemotron = Read("nemotron-h-8b");
  EXPECT_EQ(CacheOfOne(nemotron, 2) - CacheOfOne(nemotron, 1), uint64_t{4} * 2 * 8 * 128 * 2);
}

TEST(ModelExperts, AStepOfManyTokensReadsNearlyAll) {
  const Model model = Read("qwen3-235b-a22b");
  EXPECT_DOUBLE_EQ(ExpertShare(model, 1), 8.0 / 128);
  EXPECT_NEAR(ExpertShare(model, 16), 0.644, 0.001);
  EXPECT_GT(ExpertShare(model, 256), 0.999);
  EXPECT_DOUBLE_EQ(ExpertShare(Read("llama-3.1-8b"), 1), 1);
}

Quantization QuantizationOf(const std::string& json) {
  Config config;
  EXPECT_EQ(
      ParseConfig(R"({"model_type":"llama","hidden_size":4096,"num_hidden_layers":1,"quantization_config":)" +
                      json + "}",
                  &config),
      "");
  return Quantization::Of(config);
}

TEST(ModelQuantization, BitsAndScalesByMethod) {
  constexpr uint64_t kNumbers = 4096 * 4096;
  const auto bytes = [](const std::string& json) {
    return QuantizationOf(json).MatrixBytes("model.layers.0.mlp.down_proj", 4096, 4096, 2);
  };
  EXPECT_EQ(bytes(R"({"quant_method":"awq","bits":4,"group_size":128})"),
            kNumbers / 2 + kNumbers / 128 * 20 / 8);
  EXPECT_EQ(bytes(R"({"quant_method":"gptq","bits":8,"group_size":128})"), kNumbers + kNumbers / 128 * 3);
  EXPECT_EQ(bytes(R"({"quant_method":"fp8","weight_block_size":[128,128]})"), kNumbers + 32 * 32 * 4);
  EXPECT_EQ(bytes(R"({"quant_method":"fp8"})"), kNumbers + 4096 * 4);
  EXPECT_EQ(bytes(R"({"quant_method":"mxfp4"})"), kNumbers / 2 + kNumbers / 32);
  EXPECT_EQ(bytes(R"({"quant_method":"bitsandbytes","load_in_4bit":true})"),
            kNumbers / 2 + kNumbers / 64 * 4);
  EXPECT_EQ(bytes(R"({"quant_method":"modelopt","quant_algo":"NVFP4"})"), kNumbers / 2 + kNumbers / 16);
  EXPECT_EQ(
      bytes(
          R"({"quant_method":"compressed-tensors","config_groups":{"group_0":{"weights":{"num_bits":4,"group_size":128}}}})"),
      kNumbers / 2 + kNumbers / 128 * 2);
  EXPECT_FALSE(QuantizationOf(R"({"quant_method":"of_tomorrow"})").known());
}

TEST(ModelQuantization, ModulesAreSparedByPattern) {
  EXPECT_TRUE(MatchesModule("model.layers.3.self_attn.qkv_proj", "model.layers.*.self_attn"));
  EXPECT_TRUE(MatchesModule("model.layers.3.mlp.gate", "mlp.gate"));
  EXPECT_FALSE(MatchesModule("model.layers.3.mlp.gate_up_proj", "mlp.gate"));
  EXPECT_TRUE(MatchesModule("lm_head", "lm_head"));
  EXPECT_FALSE(MatchesModule("model.layers.3.mlp", "lm_head"));
  const Quantization q = QuantizationOf(
      R"({"quant_method":"compressed-tensors","config_groups":{"g":{"weights":{"num_bits":8}}},"ignore":["re:.*q_proj$","model.layers.0.mlp.up_proj"]})");
  EXPECT_TRUE(q.Spares("model.layers.7.self_attn.qkv_proj"));
  EXPECT_TRUE(q.Spares("model.layers.0.mlp.gate_up_proj"));
  EXPECT_FALSE(q.Spares("model.layers.1.mlp.gate_up_proj"));
}

Mistake MistakeOf(const std::string& json) {
  Config config;
  Model model;
  const Mistake mistake = ParseConfig(json, &config);
  return mistake.empty() ? ModelOfConfig(config, &model) : mistake;
}

TEST(ModelConfig, MistakesNameTheFix) {
  const auto says = [](const std::string& json, const std::string& words) {
    EXPECT_NE(MistakeOf(json).find(words), std::string::npos) << json << ": " << MistakeOf(json);
  };
  says("", "is not JSON; download it again");
  says("[]", "is no object");
  says("{}", "no \"model_type\"");
  says(R"({"model_type":"llama"})", "no \"num_hidden_layers\"");
  says(R"({"model_type":"llama","num_hidden_layers":-1,"hidden_size":1})", "no \"num_hidden_layers\"");
  says(R"({"model_type":"llama","num_hidden_layers":2000,"hidden_size":1})", "2000 layers");
  says(R"({"model_type":"llama","num_hidden_layers":2})", "no \"hidden_size\"");
  says(R"({"model_type":"of_tomorrow","num_hidden_layers":2,"hidden_size":8})",
       "'of_tomorrow', whose sizes are not known here");
  says(
      R"({"model_type":"llama","num_hidden_layers":2,"hidden_size":8,"quantization_config":{"quant_method":"x"}})",
      "quantised by 'x'");
  says(std::string(100, '[') + std::string(100, ']'), "32 levels");
  says(
      R"({"model_type":"mixtral","num_hidden_layers":2,"hidden_size":16777216,"intermediate_size":16777216,"num_local_experts":65536})",
      "more than 64 TiB");
}

}  // namespace
}  // namespace gpuroom::model
