// One line of the control protocol: words, and fields "key=value", with a space
// between them. Values are percent-encoded, so that a tag or a path may hold
// anything; docs/sleep.md has the protocol. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace gpuroom {

// The most that one side reads of the other.
inline constexpr size_t kLongestRequest = size_t{64} << 10;
inline constexpr size_t kLongestReply = size_t{16} << 20;

// All bytes but letters, digits and "-._/:,+@~" as %XX.
std::string PercentEncode(std::string_view text);
// kInvalidArgument: a '%' without two hexadecimal digits.
Result<std::string> PercentDecode(std::string_view text);

// Decimal digits alone. kInvalidArgument: anything else, or more than 64 bits.
Result<uint64_t> ParseDecimal(std::string_view text);
// The same without leading zeros: each number has one text.
Result<uint64_t> ParsePlainDecimal(std::string_view text);

class ControlLine {
 public:
  using Field = std::pair<std::string, std::string>;

  // Without its newline. kInvalidArgument: no words, or an encoding that is wrong.
  static Result<ControlLine> Parse(std::string_view text);

  // Word `index`; "" where there are fewer. Like the next two, a view of this line, which outlives it.
  std::string_view Word(size_t index) const&;
  std::string_view Word(size_t index) const&& = delete;
  const std::vector<Field>& fields() const& { return fields_; }
  const std::vector<Field>& fields() const&& = delete;
  // The first value of `key`; "" without one.
  std::string_view Value(std::string_view key) const&;
  std::string_view Value(std::string_view key) const&& = delete;
  // The same as a number; 0 where it is none.
  uint64_t Number(std::string_view key) const;

  // For writing.
  ControlLine& Add(std::string_view word);
  ControlLine& Add(std::string_view key, std::string_view value);
  ControlLine& Add(std::string_view key, uint64_t value);
  // With its newline.
  std::string Text() const;

 private:
  std::vector<std::string> words_;
  std::vector<Field> fields_;
};

}  // namespace gpuroom
