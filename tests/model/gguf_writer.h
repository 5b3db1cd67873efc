// Writes the headers of GGUF files for tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gpuroom::model {

class GgufWriter {
 public:
  void Text(const std::string& key, const std::string& text) { Value(key, 8) += Sized(text); }
  void Number(const std::string& key, uint32_t number) { Value(key, 4) += Bytes(number, 4); }
  void Texts(const std::string& key, const std::vector<std::string>& texts) {
    std::string& value = Value(key, 9);
    value += Bytes(8, 4) + Bytes(texts.size(), 8);
    for (const std::string& text : texts) value += Sized(text);
  }
  void Tensor(const std::string& name, const std::vector<uint64_t>& lengths, uint32_t type) {
    ++tensors_;
    tensor_text_ += Sized(name) + Bytes(lengths.size(), 4);
    for (const uint64_t length : lengths) tensor_text_ += Bytes(length, 8);
    tensor_text_ += Bytes(type, 4) + Bytes(0, 8);
  }
  std::string File() const {
    return "GGUF" + Bytes(3, 4) + Bytes(tensors_, 8) + Bytes(values_, 8) + value_text_ + tensor_text_;
  }

 private:
  static std::string Bytes(uint64_t number, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i, number >>= 8) text += static_cast<char>(number & 0xff);
    return text;
  }
  static std::string Sized(const std::string& text) { return Bytes(text.size(), 8) + text; }
  std::string& Value(const std::string& key, uint32_t type) {
    ++values_;
    value_text_ += Sized(key) + Bytes(type, 4);
    return value_text_;
  }

  uint64_t values_ = 0;
  uint64_t tensors_ = 0;
  std::string value_text_;
  std::string tensor_text_;
};

}  // namespace gpuroom::model
