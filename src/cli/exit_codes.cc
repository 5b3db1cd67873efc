#include "cli/exit_codes.h"

#include <fmt/format.h>

#include <cstdio>

namespace gpuroom {
namespace {

// Bytes of a well-formed UTF-8 sequence at the start of `text`; 0: there is none.
size_t SequenceLength(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

std::string Printable(std::string_view text) {
  std::string clean;
  while (!text.empty()) {
    const size_t length = SequenceLength(text);
    const auto first = static_cast<unsigned char>(text[0]);
    // 0xc2 with 0x80-0x9f is a control character too.
    const bool control = length == 0 || first < 0x20 || first == 0x7f ||
                         (first == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0);
    control ? clean += '?' : clean += text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return clean;
}

int Report(const Failure& failure) {
  fmt::print(stderr, "gpuroom: {}\n", Printable(failure.text));
  return failure.exit_code;
}

}  // namespace gpuroom
