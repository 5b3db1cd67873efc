#include "model/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "model/config.h"
#include "model/element.h"
#include "model/names.h"

namespace gpuroom::model {
namespace {

constexpr char kCut[] = "is cut short within its header; download it again";
constexpr uint64_t kMostValues = 100'000;
constexpr uint64_t kMostText = 1 << 16;  // bytes of a name
constexpr uint64_t kMostNumbers = 4096;  // of a list that is kept
constexpr uint64_t kMostDimensions = 8;

// The types of values: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
enum ValueType : uint32_t { kBool = 7, kString = 8, kArray = 9 };

// Bytes of a value of one size; 0 for the others.
uint64_t ValueBytes(uint32_t type) {
  constexpr uint64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < std::size(kBytes) ? kBytes[type] : 0;
}

bool IsWhole(uint32_t type) { return type != 6 && type != 12 && type != kString && type != kArray; }
bool IsSigned(uint32_t type) { return type == 1 || type == 3 || type == 5 || type == 11; }

// Reads one thing after the other. After a read that failed all others fail, too.
class Cursor {
 public:
  explicit Cursor(HeaderSource* source) : source_(source) {}

  bool failed() const { return failed_; }
  void Skip(uint64_t bytes) {
    failed_ = failed_ || bytes > source_->size() - at_;
    if (!failed_) at_ += bytes;
  }
  // A whole number of `bytes`, at most 8, the lowest first.
  uint64_t Take(uint64_t bytes) {
    unsigned char raw[8] = {};
    failed_ = failed_ || !source_->Read(at_, reinterpret_cast<char*>(raw), static_cast<size_t>(bytes));
    if (failed_) return 0;
    at_ += bytes;
    uint64_t number = 0;
    for (int i = 7; i >= 0; --i) number = number << 8 | raw[i];
    return number;
  }
  std::string TakeText() {
    const uint64_t size = Take(8);
    failed_ = failed_ || size > kMostText || size > source_->size() - at_;
    if (failed_) return "";
    std::string text(static_cast<size_t>(size), '\0');
    failed_ = !source_->Read(at_, text.data(), text.size());
    at_ += size;
    return text;
  }
  void SkipText() { Skip(Take(8)); }

 private:
  HeaderSource* source_;
  uint64_t at_ = 0;
  bool failed_ = false;
};

// One number that is not negative, or none.
void TakeNumber(Cursor* cursor, uint32_t type, std::vector<uint64_t>* numbers) {
  const uint64_t bytes = ValueBytes(type);
  const uint64_t raw = cursor->Take(bytes);
  const bool negative = IsSigned(type) && raw >> (8 * bytes - 1) != 0;
  if (IsWhole(type) && !negative) numbers->push_back(std::min(raw, kMostDimension));
}

void TakeList(Cursor* cursor, GgufValue* value) {
  const auto type = static_cast<uint32_t>(cursor->Take(4));
  const uint64_t count = cursor->Take(8);
  if (type == kString) {
    for (uint64_t i = 0; i < count && !cursor->failed(); ++i) cursor->SkipText();
  } else if (ValueBytes(type) == 0) {
    cursor->Skip(UINT64_MAX);  // lists of lists are in no file
  } else if (count > kMostNumbers) {
    cursor->Skip(count > UINT64_MAX / 8 ? UINT64_MAX : count * ValueBytes(type));
  } else {
    for (uint64_t i = 0; i < count && !cursor->failed(); ++i) TakeNumber(cursor, type, &value->numbers);
  }
}

GgufValue TakeValue(Cursor* cursor) {
  GgufValue value;
  const auto type = static_cast<uint32_t>(cursor->Take(4));
  if (type == kArray) {
    TakeList(cursor, &value);
  } else if (type == kString) {
    const Cursor before = *cursor;
    value.text = cursor->TakeText();
    if (!cursor->failed()) return value;
    *cursor = before;  // a text that is no name: a template for chats
    cursor->SkipText();
  } else if (ValueBytes(type) == 0) {
    cursor->Skip(UINT64_MAX);
  } else {
    TakeNumber(cursor, type, &value.numbers);
  }
  return value;
}

Mistake TakeTensor(Cursor* cursor, Tensor* tensor) {
  tensor->name = cursor->TakeText();
  const uint64_t dimensions = cursor->Take(4);
  if (!cursor->failed() && dimensions > kMostDimensions)
    return fmt::format("gives '{}' {} dimensions; download it again", tensor->name.substr(0, 80), dimensions);
  tensor->parameters = 1;
  for (uint64_t i = 0; i < dimensions && !cursor->failed(); ++i) {
    const uint64_t length = cursor->Take(8);
    if (length != 0 && tensor->parameters > kMostTensorBytes / length)
      return fmt::format("gives '{}' more than 64 TiB; download it again", tensor->name.substr(0, 80));
    tensor->parameters *= length;
  }
  const auto type = static_cast<uint32_t>(cursor->Take(4));
  cursor->Skip(8);  // where it begins
  if (cursor->failed()) return kCut;
  const std::optional<Element> element = GgufElement(type);
  if (!element)
    return fmt::format("has '{}' in type {} of ggml, which is not known here; use a newer gpuroom",
                       tensor->name.substr(0, 80), type);
  tensor->bytes = BytesOf(*element, tensor->parameters);
  tensor->floating = element->floating;
  const TensorName name = ReadGgufName(tensor->name);
  tensor->role = name.role;
  tensor->layer = name.layer;
  return "";
}

// llama.cpp's names begin with the architecture's.
class Keys {
 public:
  explicit Keys(const GgufHeader& header)
      : header_(header), prefix_(header.Text("general.architecture") + ".") {}
  uint64_t Number(const char* key, uint64_t otherwise = 0) const {
    return header_.Number(prefix_ + key, otherwise);
  }
  uint64_t OfLayer(const char* key, uint64_t layer, uint64_t otherwise) const {
    return header_.OfLayer(prefix_ + key, layer, otherwise);
  }

 private:
  const GgufHeader& header_;
  std::string prefix_;
};

CacheLayer CacheOfLayer(const Keys& keys, uint64_t layer) {
  CacheLayer cache;
  const uint64_t heads = keys.OfLayer("attention.head_count", layer, 0);
  const uint64_t kv_heads = keys.OfLayer("attention.head_count_kv", layer, heads);
  const uint64_t derived = heads == 0 ? 0 : keys.Number("embedding_length") / heads;
  const uint64_t key = keys.Number("attention.key_length", derived);
  const uint64_t value = keys.Number("attention.value_length", derived);
  const uint64_t rank = keys.Number("attention.kv_lora_rank");
  constexpr uint64_t kMost = uint64_t{1} << 26;
  if (rank > 0) {
    const uint64_t rope = keys.Number("rope.dimension_count");
    cache.elements = std::min(rank + rope, kMost);
    cache.expanded_elements = std::min(heads * (keys.Number("attention.key_length_mla", key) +
                                                keys.Number("attention.value_length_mla", value)),
                                       kMost);
  } else if (kv_heads > 0) {
    cache.elements = std::min(kv_heads * (key + value), kMost);
  }
  const uint64_t inner = keys.Number("ssm.inner_size");
  if (kv_heads == 0 || (inner > 0 && keys.Number("full_attention_interval") > 0 &&
                        (layer + 1) % keys.Number("full_attention_interval") != 0)) {
    cache = CacheLayer();
    cache.state_bytes = 4 * inner * keys.Number("ssm.state_size");
  }
  return cache;
}

// Which layers look at a window alone, llama.cpp knows by architecture; files say so of few.
uint64_t WindowOf(const std::string& architecture, const Keys& keys, uint64_t layer) {
  const uint64_t window = keys.Number("attention.sliding_window");
  const uint64_t period = architecture == "gemma2" || architecture == "gpt-oss"   ? 2
                          : architecture == "gemma3"                              ? 6
                          : architecture == "cohere2" || architecture == "llama4" ? 4
                                                                                  : 0;
  return period != 0 && (layer + 1) % period != 0 ? window : 0;
}

}  // namespace

uint64_t GgufHeader::Number(const std::string& key, uint64_t otherwise) const {
  return OfLayer(key, 0, otherwise);
}

uint64_t GgufHeader::OfLayer(const std::string& key, uint64_t layer, uint64_t otherwise) const {
  const auto found = values.find(key);
  if (found == values.end() || found->second.numbers.empty()) return otherwise;
  const std::vector<uint64_t>& numbers = found->second.numbers;
  return numbers[layer < numbers.size() ? static_cast<size_t>(layer) : 0];
}

std::string GgufHeader::Text(const std::string& key) const {
  const auto found = values.find(key);
  return found == values.end() ? "" : found->second.text;
}

Mistake ReadGguf(HeaderSource* source, GgufHeader* header) {
  Cursor cursor(source);
  if (cursor.Take(4) != 0x46554747) return "does not begin as a GGUF file does; is it another format?";
  const uint64_t version = cursor.Take(4);
  if (!cursor.failed() && version != 2 && version != 3)
    return fmt::format("is of GGUF version {}, and versions 2 and 3 are read; convert it with llama.cpp",
                       version);
  const uint64_t tensors = cursor.Take(8);
  const uint64_t values = cursor.Take(8);
  if (cursor.failed()) return kCut;
  if (tensors > kMostTensors || values > kMostValues)
    return fmt::format("names {} tensors and {} values, more than any model; download it again", tensors,
                       values);
  for (uint64_t i = 0; i < values && !cursor.failed(); ++i) {
    std::string key = cursor.TakeText();
    GgufValue value = TakeValue(&cursor);
    header->values.insert_or_assign(std::move(key), std::move(value));
  }
  for (uint64_t i = 0; i < tensors && !cursor.failed(); ++i) {
    Tensor tensor;
    const Mistake mistake = TakeTensor(&cursor, &tensor);
    if (!mistake.empty()) return mistake;
    header->tensors.push_back(std::move(tensor));
  }
  return cursor.failed() ? kCut : "";
}

Mistake ModelOfGguf(const GgufHeader& header, Model* model) {
  const std::string architecture = header.Text("general.architecture");
  const Keys keys(header);
  const uint64_t layers = keys.Number("block_count");
  if (architecture.empty() || layers == 0 || layers > kMostLayers)
    return "names no architecture with layers; is it a language model?";
  model->architecture = architecture;
  model->tensors = header.tensors;
  model->hidden = keys.Number("embedding_length");
  model->intermediate = keys.Number("feed_forward_length");
  model->experts = keys.Number("expert_count");
  model->experts_per_token = keys.Number("expert_used_count", 1);
  model->longest_context = keys.Number("context_length");
  model->kv_heads = keys.Number("attention.kv_lora_rank") > 0 ? 0 : keys.Number("attention.head_count_kv");
  model->query_width = keys.Number("attention.head_count") * keys.Number("attention.key_length");
  for (uint64_t layer = 0; layer < layers; ++layer) {
    model->cache.push_back(CacheOfLayer(keys, layer));
    model->cache.back().window = WindowOf(architecture, keys, layer);
  }
  const auto is = [](Role role) { return [role](const Tensor& tensor) { return tensor.role == role; }; };
  const auto& tensors = model->tensors;
  model->tied = std::none_of(tensors.begin(), tensors.end(), is(Role::kHead));
  const auto embedding = std::find_if(tensors.begin(), tensors.end(), is(Role::kEmbedding));
  if (embedding != tensors.end() && model->hidden > 0)
    model->vocabulary = embedding->parameters / model->hidden;
  return "";
}

}  // namespace gpuroom::model
