#include "model/json_text.h"

namespace gpuroom::model {
namespace {

constexpr int kMostDepth = 32;
constexpr uint64_t kMostNumber = uint64_t{1} << 40;

}  // namespace

Mistake ParseJson(std::string_view text, Json* out) {
  bool deep = false;
  // What is nested too deep is left out of the document as it is read.
  const auto keep = [&deep](int depth, Json::parse_event_t, Json&) {
    deep = deep || depth > kMostDepth;
    return depth <= kMostDepth;
  };
  *out = Json::parse(text, keep, false);
  if (deep) return "is nested more than 32 levels deep; download it again";
  if (out->is_discarded()) return "is not JSON; download it again";
  return "";
}

const Json* Find(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(std::string(key));
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::optional<uint64_t> FindNumber(const Json& object, std::string_view key) {
  const Json* value = Find(object, key);
  if (value == nullptr || !value->is_number_unsigned() || value->get<uint64_t>() > kMostNumber)
    return std::nullopt;
  return value->get<uint64_t>();
}

std::string FindText(const Json& object, std::string_view key) {
  const Json* value = Find(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

bool FindFlag(const Json& object, std::string_view key, bool otherwise) {
  const Json* value = Find(object, key);
  return value != nullptr && value->is_boolean() ? value->get<bool>() : otherwise;
}

}  // namespace gpuroom::model
