// The types in which model files store numbers, and how many bytes these take: those of safetensors by name,
// those of GGUF by number. Quantised GGUF types store blocks of numbers with their scales. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace gpuroom::model {

struct Element {
  std::string_view name;
  uint64_t block = 1;     // numbers that are stored together
  uint64_t bytes = 0;     // of a block
  bool floating = false;  // plain floating point of 16 or 32 bits
};

// "BF16", "F8_E4M3", ... of a safetensors header.
std::optional<Element> SafetensorsElement(std::string_view name);
// ggml's number of a type.
std::optional<Element> GgufElement(uint32_t type);

// Bytes of `count` numbers, the last block whole.
uint64_t BytesOf(const Element& element, uint64_t count);

}  // namespace gpuroom::model
