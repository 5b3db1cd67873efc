#include "sleep/control_line.h"

#include <algorithm>
#include <charconv>

namespace gpuroom {
namespace {

bool IsPlain(char c) {
  const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return letter || (c >= '0' && c <= '9') || std::string_view("-._/:,+@~").find(c) != std::string_view::npos;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

std::string PercentEncode(std::string_view text) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    if (IsPlain(c)) {
      encoded += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    encoded += '%';
    encoded += kDigits[byte >> 4];
    encoded += kDigits[byte & 15];
  }
  return encoded;
}

Result<std::string> PercentDecode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
    if (high < 0 || low < 0)
      return Status(Code::kInvalidArgument, "a '%' is not followed by two hexadecimal digits");
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

Result<uint64_t> ParseDecimal(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    return Status(Code::kInvalidArgument, "not a number");
  return value;
}

Result<uint64_t> ParsePlainDecimal(std::string_view text) {
  if (text.size() > 1 && text.front() == '0') return Status(Code::kInvalidArgument, "a leading zero");
  return ParseDecimal(text);
}

Result<ControlLine> ControlLine::Parse(std::string_view text) {
  ControlLine line;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos) {
      if (!part.empty()) line.Add(part);
      continue;
    }
    const Result<std::string> value = PercentDecode(part.substr(equals + 1));
    if (!value.ok()) return value.status();
    line.Add(part.substr(0, equals), *value);
  }
  if (line.words_.empty()) return Status(Code::kInvalidArgument, "an empty line");
  return line;
}

std::string_view ControlLine::Word(size_t index) const& {
  return index < words_.size() ? std::string_view(words_[index]) : std::string_view();
}

std::string_view ControlLine::Value(std::string_view key) const& {
  for (const auto& [name, value] : fields_) {
    if (name == key) return value;
  }
  return {};
}

uint64_t ControlLine::Number(std::string_view key) const {
  const Result<uint64_t> value = ParseDecimal(Value(key));
  return value.ok() ? *value : 0;
}

ControlLine& ControlLine::Add(std::string_view word) {
  words_.emplace_back(word);
  return *this;
}

ControlLine& ControlLine::Add(std::string_view key, std::string_view value) {
  fields_.emplace_back(key, value);
  return *this;
}

ControlLine& ControlLine::Add(std::string_view key, uint64_t value) {
  return Add(key, std::string_view(std::to_string(value)));
}

std::string ControlLine::Text() const {
  std::string text;
  for (const std::string& word : words_) text += (text.empty() ? "" : " ") + word;
  for (const auto& [key, value] : fields_) text += " " + key + "=" + PercentEncode(value);
  return text + "\n";
}

}  // namespace gpuroom
