// Folders of models: which file decides, and what is said of those that cannot be read.
#include "model/folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "gguf_writer.h"
#include "model/safetensors.h"

namespace gpuroom::model {
namespace {

namespace fs = std::filesystem;

constexpr char kLlama[] =
    R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":64,"intermediate_size":128,
"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":100,"tie_word_embeddings":false)";

class ModelFolder : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = testing::TempDir() + "gpuroom-model-XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Put(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
  }
  void PutConfig(const std::string& more = "") const { Put("config.json", kLlama + more + "}"); }
  // A file with that header and `data` bytes after it, which are a hole that takes no room.
  void PutSafetensors(const std::string& name, const std::string& header, uint64_t data) const {
    std::string length;
    for (int i = 0; i < 8; ++i) length += static_cast<char>(header.size() >> (8 * i) & 0xff);
    Put(name, length + header);
    fs::resize_file(folder_ / name, 8 + header.size() + data);
  }
  Mistake Read(const std::string& name = "") {
    return ReadModel(name.empty() ? folder_.string() : (folder_ / name).string(), &model_);
  }
  void Refuses(const std::string& words, const std::string& name = "") {
    const Mistake mistake = Read(name);
    EXPECT_NE(mistake.find(words), std::string::npos) << mistake;
  }
  const Tensor* Find(const std::string& name) const {
    for (const Tensor& tensor : model_.tensors) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }

  fs::path folder_;
  Model model_;
};

TEST_F(ModelFolder, ConfigAloneGoesByTheFormula) {
  PutConfig();
  ASSERT_EQ(Read(), "");
  EXPECT_EQ(model_.source, "config.json, by the formula of its architecture");
  const uint64_t layer = 64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 128 + 2 * 64;
  EXPECT_EQ(LoadedParameters(model_), 2 * layer + 2 * 100 * 64 + 64);
  Model same;
  EXPECT_EQ(ReadModel((folder_ / "config.json").string(), &same), "");
  EXPECT_EQ(LoadedBytes(same), LoadedBytes(model_));
}

TEST_F(ModelFolder, HeadersDecideAndAreFused) {
  PutConfig();
  PutSafetensors("model.safetensors", R"({"__metadata__":{"format":"pt"},
"model.embed_tokens.weight":{"dtype":"BF16","shape":[100,64],"data_offsets":[0,12800]},
"model.layers.0.self_attn.q_proj.weight":{"dtype":"F8_E4M3","shape":[64,64],"data_offsets":[12800,16896]},
"model.layers.0.self_attn.k_proj.weight":{"dtype":"F8_E4M3","shape":[32,64],"data_offsets":[16896,18944]},
"model.layers.0.self_attn.k_proj.weight_scale":{"dtype":"F32","shape":[],"data_offsets":[18944,18948]},
"model.layers.1.mlp.experts.0.gate_proj.weight":{"dtype":"BF16","shape":[8,64],"data_offsets":[18948,19972]},
"model.layers.1.mlp.experts.7.up_proj.weight":{"dtype":"BF16","shape":[8,64],"data_offsets":[19972,20996]},
"model.layers.2.mlp.down_proj.weight":{"dtype":"BF16","shape":[8],"data_offsets":[20996,21012]},
"model.visual.blocks.0.w.weight":{"dtype":"BF16","shape":[8],"data_offsets":[21012,21028]}})",
                 21028);
  ASSERT_EQ(Read(), "");
  EXPECT_EQ(model_.source, "the headers of 1 safetensors file");
  ASSERT_NE(Find("model.layers.0.self_attn.qkv_proj"), nullptr);
  EXPECT_EQ(Find("model.layers.0.self_attn.qkv_proj")->bytes, 4096U + 2048 + 4);
  EXPECT_EQ(Find("model.layers.0.self_attn.qkv_proj")->parameters, 96U * 64);
  ASSERT_NE(Find("model.layers.1.mlp.experts.w13"), nullptr);
  EXPECT_EQ(Find("model.layers.1.mlp.experts.w13")->bytes, 2048U);
  EXPECT_EQ(Bytes(model_, Role::kExperts), 2048U);
  EXPECT_EQ(Bytes(model_, Role::kDraft), 16U);  // a layer beyond the model's two
  EXPECT_EQ(Bytes(model_, Role::kVision), 16U);
  EXPECT_TRUE(model_.tied);
}

// Remembers how far it was read.
class WatchedSource : public MemorySource {
 public:
  using MemorySource::MemorySource;
  bool Read(uint64_t offset, char* to, size_t count) override {
    end_ = std::max(end_, offset + count);
    return MemorySource::Read(offset, to, count);
  }
  uint64_t end() const { return end_; }

 private:
  uint64_t end_ = 0;
};

TEST(ModelSafetensors, NoByteBehindTheHeaderIsRead) {
  const std::string header = R"({"a":{"dtype":"BF16","shape":[8],"data_offsets":[0,16]}})";
  const std::string file = std::string(1, static_cast<char>(header.size())) + std::string(7, '\0') + header +
                           std::string(16, '\0');
  WatchedSource source(file);
  std::vector<StoredTensor> tensors;
  EXPECT_EQ(ReadSafetensors(&source, &tensors), "");
  EXPECT_EQ(tensors.size(), 1U);
  EXPECT_EQ(source.end(), 8 + header.size());
}

TEST_F(ModelFolder, PackedNumbersCountOneByOne) {
  PutConfig(R"(,"quantization_config":{"quant_method":"awq","bits":4,"group_size":64})");
  PutSafetensors("model.safetensors", R"({
"model.layers.0.mlp.down_proj.qweight":{"dtype":"I32","shape":[128,8],"data_offsets":[0,4096]},
"model.layers.0.mlp.down_proj.qzeros":{"dtype":"I32","shape":[2,8],"data_offsets":[4096,4160]},
"model.layers.0.mlp.down_proj.scales":{"dtype":"F16","shape":[2,64],"data_offsets":[4160,4416]}})",
                 4416);
  ASSERT_EQ(Read(), "");
  ASSERT_NE(Find("model.layers.0.mlp.down_proj"), nullptr);
  EXPECT_EQ(Find("model.layers.0.mlp.down_proj")->parameters, 128U * 64);
  EXPECT_EQ(Find("model.layers.0.mlp.down_proj")->bytes, 4416U);
}

TEST_F(ModelFolder, HeadersDoWithoutAKnownArchitecture) {
  Put("config.json",
      R"({"model_type":"of_tomorrow","hidden_size":64,"num_hidden_layers":1,"num_attention_heads":4})");
  Refuses("'of_tomorrow', whose sizes are not known here; put the model's .safetensors files beside it");
  PutSafetensors("model.safetensors",
                 R"({"model.layers.0.w.weight":{"dtype":"BF16","shape":[8],"data_offsets":[0,16]}})", 16);
  EXPECT_EQ(Read(), "");
}

TEST_F(ModelFolder, AnIndexWithoutItsFilesGivesTheSum) {
  PutConfig();
  Put("model.safetensors.index.json",
      R"({"metadata":{"total_size":1000000},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  PutSafetensors("m-1.safetensors", "{}", 0);
  ASSERT_EQ(Read(), "");
  EXPECT_NEAR(static_cast<double>(LoadedBytes(model_)), 1e6, 100);
  ASSERT_EQ(model_.remarks.size(), 2U);
  EXPECT_NE(model_.remarks[1].find("1 of 2 safetensors files"), std::string::npos);
}

TEST_F(ModelFolder, DamagedFilesAreRefusedInASentence) {
  Refuses("has no config.json and no .gguf file");
  Refuses("there is no file or folder", "absent");
  PutConfig();
  Put("model.safetensors", "short");
  Refuses("shorter than a safetensors header; download it again");
  Put("model.safetensors", std::string(8, '\x7f'));
  Refuses("more than safetensors allows");
  PutSafetensors("model.safetensors", "{", 0);
  Refuses("has a header that is not JSON");
  PutSafetensors("model.safetensors", R"({"a":{"dtype":"BF16","shape":[8],"data_offsets":[0,16]}})", 15);
  Refuses("is cut short: 'a' ends at byte 16 of 15");
  PutSafetensors("model.safetensors", R"({"a":{"dtype":"Q9","shape":[8],"data_offsets":[0,16]}})", 16);
  Refuses("in the type 'Q9', which is not known here");
  PutSafetensors("model.safetensors", R"({"a":{"dtype":"BF16","shape":[9],"data_offsets":[0,16]}})", 16);
  Refuses("a shape that its bytes do not have");
  PutSafetensors("model.safetensors", R"({"a":{"dtype":"BF16","shape":[8],"data_offsets":[16,0]}})", 16);
  Refuses("a shape that its bytes do not have");
  Put("notes.txt", "");
  Refuses("is no model that can be read", "notes.txt");
}

TEST_F(ModelFolder, PartsOfAGgufFileBelongTogether) {
  GgufWriter first;
  first.Text("general.architecture", "llama");
  first.Number("llama.block_count", 1);
  first.Number("split.count", 2);
  first.Tensor("token_embd.weight", {256, 10}, 0);
  Put("m-00001-of-00002.gguf", first.File());
  Refuses("is one of 2 parts, and 1 are there; download the others");
  GgufWriter second;
  second.Tensor("blk.0.attn_q.weight", {256, 2}, 0);
  Put("m-00002-of-00002.gguf", second.File());
  model_ = Model();
  ASSERT_EQ(Read(), "");
  EXPECT_EQ(LoadedBytes(model_), 256U * 12 * 4);
  Put("other.gguf", first.File());
  Refuses("holds several models in GGUF; name one");
}

}  // namespace
}  // namespace gpuroom::model
