// GGUF headers: what they say comes out, what is cut short or absurd is refused.
#include "model/gguf.h"

#include <gtest/gtest.h>

#include "gguf_writer.h"

namespace gpuroom::model {
namespace {

std::string Small() {
  GgufWriter writer;
  writer.Text("general.architecture", "llama");
  writer.Number("llama.block_count", 2);
  writer.Number("llama.embedding_length", 256);
  writer.Number("llama.attention.head_count", 4);
  writer.Number("llama.attention.head_count_kv", 2);
  writer.Number("llama.context_length", 8192);
  writer.Texts("tokenizer.ggml.tokens", {"a", "bc", ""});
  writer.Tensor("token_embd.weight", {256, 32000}, 12);          // Q4_K
  writer.Tensor("blk.0.attn_q.weight", {256, 256}, 2);           // Q4_0
  writer.Tensor("blk.0.ffn_up_exps.weight", {256, 512, 8}, 14);  // Q6_K
  writer.Tensor("blk.1.attn_norm.weight", {256}, 0);             // F32
  return writer.File();
}

Mistake ModelFrom(const std::string& bytes, Model* model) {
  MemorySource source(bytes);
  GgufHeader header;
  const Mistake mistake = ReadGguf(&source, &header);
  return mistake.empty() ? ModelOfGguf(header, model) : mistake;
}

TEST(ModelGguf, TensorsHaveTheBytesOfTheirTypes) {
  Model model;
  ASSERT_EQ(ModelFrom(Small(), &model), "");
  ASSERT_EQ(model.tensors.size(), 4U);
  EXPECT_EQ(model.tensors[0].role, Role::kEmbedding);
  EXPECT_EQ(model.tensors[0].bytes, 256U * 32000 / 256 * 144);
  EXPECT_EQ(model.tensors[1].layer, 0);
  EXPECT_EQ(model.tensors[1].bytes, 256U * 256 / 32 * 18);
  EXPECT_EQ(model.tensors[2].role, Role::kExperts);
  EXPECT_EQ(model.tensors[2].bytes, 256U * 512 * 8 / 256 * 210);
  EXPECT_EQ(model.tensors[3].layer, 1);
  EXPECT_EQ(model.tensors[3].bytes, 1024U);
  EXPECT_TRUE(model.tied);
  EXPECT_EQ(model.vocabulary, 32000U);
  EXPECT_EQ(model.longest_context, 8192U);
  ASSERT_EQ(model.cache.size(), 2U);
  EXPECT_EQ(model.cache[0].elements, 2U * 2 * 64);
}

TEST(ModelGguf, EveryBeginningIsRefused) {
  const std::string whole = Small();
  for (size_t size = 0; size < whole.size(); ++size) {
    Model model;
    EXPECT_NE(ModelFrom(whole.substr(0, size), &model), "") << size;
  }
}

TEST(ModelGguf, AbsurdNumbersAreRefused) {
  Model model;
  GgufWriter types;
  types.Tensor("blk.0.x", {256}, 4);
  EXPECT_NE(ModelFrom(types.File(), &model).find("type 4 of ggml"), std::string::npos);
  GgufWriter large;
  large.Tensor("blk.0.x", {uint64_t{1} << 40, uint64_t{1} << 40}, 0);
  EXPECT_NE(ModelFrom(large.File(), &model).find("64 TiB"), std::string::npos);
  std::string old = Small();
  old[4] = 1;
  EXPECT_NE(ModelFrom(old, &model).find("GGUF version 1"), std::string::npos);
  std::string many = Small();
  many[15] = 1;
  EXPECT_NE(ModelFrom(many, &model).find("more than any model"), std::string::npos);
  EXPECT_NE(ModelFrom("PK\3\4" + std::string(100, '\0'), &model).find("another format"), std::string::npos);
  EXPECT_NE(ModelFrom(GgufWriter().File(), &model).find("no architecture"), std::string::npos);
}

}  // namespace
}  // namespace gpuroom::model
