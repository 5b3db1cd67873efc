// FixedText: text that grows in memory of the caller's, for who may not allocate. What has no room is left
// out.
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <string_view>

namespace gpuroom {

class FixedText {
 public:
  // `size` bytes at `place`, which outlive this; one of them ends the text.
  FixedText(char* place, size_t size) : place_(place), size_(size) { place_[0] = '\0'; }

  __attribute__((format(printf, 2, 3))) void Append(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int wanted = std::vsnprintf(place_ + length_, size_ - length_, format, arguments);
    va_end(arguments);
    if (wanted > 0)
      length_ =
          length_ + static_cast<size_t>(wanted) < size_ ? length_ + static_cast<size_t>(wanted) : size_ - 1;
  }
  std::string_view view() const& { return {place_, length_}; }
  std::string_view view() const&& = delete;

 private:
  char* const place_;
  const size_t size_;
  size_t length_ = 0;
};

}  // namespace gpuroom
