#include "model/element.h"

#include <algorithm>
#include <iterator>

namespace gpuroom::model {
namespace {

// https://github.com/huggingface/safetensors: Dtype. F4 and F6 are counted in bits there; a shape of F4
// numbers counts the numbers.
constexpr Element kSafetensors[] = {
    {"F64", 1, 8, false},         {"F32", 1, 4, true},      {"F16", 1, 2, true},
    {"BF16", 1, 2, true},         {"F8_E4M3", 1, 1, false}, {"F8_E5M2", 1, 1, false},
    {"F8_E8M0", 1, 1, false},     {"F4", 2, 1, false},      {"F6_E2M3", 4, 3, false},
    {"F6_E3M2", 4, 3, false},     {"I64", 1, 8, false},     {"U64", 1, 8, false},
    {"I32", 1, 4, false},         {"U32", 1, 4, false},     {"I16", 1, 2, false},
    {"U16", 1, 2, false},         {"I8", 1, 1, false},      {"U8", 1, 1, false},
    {"BOOL", 1, 1, false},        {"C64", 1, 8, false},     {"F8_E4M3FNUZ", 1, 1, false},
    {"F8_E5M2FNUZ", 1, 1, false},
};

struct Numbered {
  uint32_t type;
  Element element;
};

// https://github.com/ggml-org/ggml: enum ggml_type and the blocks of ggml-common.h. Numbers that are missing
// here were given up there.
constexpr Numbered kGguf[] = {
    {0, {"F32", 1, 4, true}},          {1, {"F16", 1, 2, true}},          {2, {"Q4_0", 32, 18, false}},
    {3, {"Q4_1", 32, 20, false}},      {6, {"Q5_0", 32, 22, false}},      {7, {"Q5_1", 32, 24, false}},
    {8, {"Q8_0", 32, 34, false}},      {9, {"Q8_1", 32, 36, false}},      {10, {"Q2_K", 256, 84, false}},
    {11, {"Q3_K", 256, 110, false}},   {12, {"Q4_K", 256, 144, false}},   {13, {"Q5_K", 256, 176, false}},
    {14, {"Q6_K", 256, 210, false}},   {15, {"Q8_K", 256, 292, false}},   {16, {"IQ2_XXS", 256, 66, false}},
    {17, {"IQ2_XS", 256, 74, false}},  {18, {"IQ3_XXS", 256, 98, false}}, {19, {"IQ1_S", 256, 50, false}},
    {20, {"IQ4_NL", 32, 18, false}},   {21, {"IQ3_S", 256, 110, false}},  {22, {"IQ2_S", 256, 82, false}},
    {23, {"IQ4_XS", 256, 136, false}}, {24, {"I8", 1, 1, false}},         {25, {"I16", 1, 2, false}},
    {26, {"I32", 1, 4, false}},        {27, {"I64", 1, 8, false}},        {28, {"F64", 1, 8, false}},
    {29, {"IQ1_M", 256, 56, false}},   {30, {"BF16", 1, 2, true}},        {34, {"TQ1_0", 256, 54, false}},
    {35, {"TQ2_0", 256, 66, false}},   {39, {"MXFP4", 32, 17, false}},
};

}  // namespace

std::optional<Element> SafetensorsElement(std::string_view name) {
  const auto* found = std::find_if(std::begin(kSafetensors), std::end(kSafetensors),
                                   [name](const Element& element) { return element.name == name; });
  if (found == std::end(kSafetensors)) return std::nullopt;
  return *found;
}

std::optional<Element> GgufElement(uint32_t type) {
  const auto* found = std::find_if(std::begin(kGguf), std::end(kGguf),
                                   [type](const Numbered& numbered) { return numbered.type == type; });
  if (found == std::end(kGguf)) return std::nullopt;
  return found->element;
}

uint64_t BytesOf(const Element& element, uint64_t count) {
  return (count + element.block - 1) / element.block * element.bytes;
}

}  // namespace gpuroom::model
