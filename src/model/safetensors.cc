#include "model/safetensors.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/size.h"
#include "model/element.h"
#include "model/json_text.h"

namespace gpuroom::model {
namespace {

constexpr uint64_t kLengthBytes = 8;

// 8 bytes, the lowest first.
uint64_t LittleEndian(const char* bytes) {
  uint64_t number = 0;
  for (int i = 7; i >= 0; --i) number = number << 8 | static_cast<unsigned char>(bytes[i]);
  return number;
}

// False where the shape is none, or its numbers would take more than any tensor.
bool ReadShape(const Json& json, uint64_t* elements) {
  const Json* shape = Find(json, "shape");
  if (shape == nullptr || !shape->is_array()) return false;
  *elements = 1;
  for (const Json& length : *shape) {
    if (!length.is_number_unsigned()) return false;
    const auto n = length.get<uint64_t>();
    if (n != 0 && *elements > 2 * kMostTensorBytes / n) return false;
    *elements *= n;
  }
  return true;
}

bool ReadOffsets(const Json& json, uint64_t* begin, uint64_t* end) {
  const Json* offsets = Find(json, "data_offsets");
  if (offsets == nullptr || !offsets->is_array() || offsets->size() != 2) return false;
  if (!(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned()) return false;
  *begin = (*offsets)[0].get<uint64_t>();
  *end = (*offsets)[1].get<uint64_t>();
  return *begin <= *end;
}

Mistake ReadTensor(const std::string& name, const Json& json, uint64_t data, StoredTensor* tensor) {
  const std::string type = FindText(json, "dtype");
  const std::optional<Element> element = SafetensorsElement(type);
  if (!element)
    return fmt::format("has '{}' in the type '{}', which is not known here; use a newer gpuroom",
                       name.substr(0, 80), type.substr(0, 32));
  uint64_t begin = 0;
  uint64_t end = 0;
  tensor->name = name;
  tensor->floating = element->floating;
  tensor->packed = type == "I32" || type == "U32" || type == "U8";
  if (!ReadShape(json, &tensor->elements) || !ReadOffsets(json, &begin, &end) ||
      end - begin != BytesOf(*element, tensor->elements))
    return fmt::format("gives '{}' a shape that its bytes do not have; download it again",
                       name.substr(0, 80));
  tensor->bytes = end - begin;
  if (end > data)
    return fmt::format("is cut short: '{}' ends at byte {} of {}; download it again", name.substr(0, 80), end,
                       data);
  return "";
}

}  // namespace

Mistake ReadSafetensors(HeaderSource* source, std::vector<StoredTensor>* tensors) {
  char length[kLengthBytes];
  if (!source->Read(0, length, kLengthBytes))
    return "is shorter than a safetensors header; download it again";
  const uint64_t header = LittleEndian(length);
  if (header > kMostSafetensorsHeader)
    return fmt::format("begins with a header of {}, more than safetensors allows; is it another format?",
                       FormatSize(header));
  if (header > source->size() - kLengthBytes) return "is cut short within its header; download it again";
  std::string text(static_cast<size_t>(header), '\0');
  if (!source->Read(kLengthBytes, text.data(), text.size()))
    return "is cut short within its header; download it again";
  Json json;
  const Mistake mistake = ParseJson(text, &json);
  if (!mistake.empty()) return "has a header that " + mistake;
  if (!json.is_object()) return "has a header that is no object; download it again";
  for (const auto& [name, each] : json.items()) {
    if (name == "__metadata__") continue;
    StoredTensor tensor;
    const Mistake wrong = ReadTensor(name, each, source->size() - kLengthBytes - header, &tensor);
    if (!wrong.empty()) return wrong;
    tensors->push_back(std::move(tensor));
  }
  return "";
}

}  // namespace gpuroom::model
