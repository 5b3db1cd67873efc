// What the fuzz targets share. A target is one source with LLVMFuzzerTestOneInput: any bytes in, and neither
// a crash nor a sanitizer's complaint nor a broken promise (Require) may come of them. libFuzzer makes the
// inputs in the preset `fuzz`; replay.cc feeds the corpus alone in every other build.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <type_traits>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace gpuroom::fuzz {

// Ends the process where a promise of the code under test is broken, which libFuzzer takes for a crash.
inline void Require(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: broken promise: %s\n", promise);
  std::abort();
}

// The rest of an input, read from its beginning. Reading past the end gives zeros.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }
  // At most `size` bytes.
  std::string_view Take(size_t size) {
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(taken.size());
    return taken;
  }
  std::string_view TakeRest() { return Take(rest_.size()); }
  // Up to the next newline, which is dropped.
  std::string_view TakeLine() {
    const std::string_view line = Take(std::min(rest_.find('\n'), rest_.size()));
    Take(1);
    return line;
  }
  template <typename Number>
  Number TakeNumber() {
    static_assert(std::is_integral_v<Number>);
    Number number = 0;
    Take(sizeof number).copy(reinterpret_cast<char*>(&number), sizeof number);
    return number;
  }

 private:
  std::string_view rest_;
};

inline std::vector<std::string_view> Lines(Input input) {
  std::vector<std::string_view> lines;
  while (!input.empty()) lines.push_back(input.TakeLine());
  return lines;
}

}  // namespace gpuroom::fuzz
