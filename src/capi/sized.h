// Structures of the public headers grow at their end in later versions, and a program says with each call how
// large they are in the headers that it was compiled with. These helpers serve programs of older and of newer
// headers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "base/status.h"

namespace gpuroom {

// Fills the program's structure of `bytes` bytes: what both sides know, and zeros for what is newer than this
// library.
template <typename T>
void Fill(void* out, size_t bytes, const T& value) {
  std::memcpy(out, &value, std::min(bytes, sizeof value));
  if (bytes > sizeof value) std::memset(static_cast<char*>(out) + sizeof value, 0, bytes - sizeof value);
}

// The program's list of T, which this library reads (and writes, where T is not const). Its entries are
// `bytes` bytes apart.
template <typename T>
class SizedList {
 public:
  SizedList(T* first, size_t count, size_t bytes) : first_(first), count_(count), bytes_(bytes) {}

  size_t size() const { return count_; }
  T& operator[](size_t i) const {
    return *reinterpret_cast<T*>(reinterpret_cast<Byte*>(first_) + i * bytes_);
  }
  // Whether this library understands all that the entries say. No published header had a smaller T.
  Status Check() const {
    if (first_ == nullptr && count_ > 0) return Status(Code::kInvalidArgument, "the structure is null");
    if (bytes_ < sizeof(T) || bytes_ % alignof(T) != 0)
      return Status(Code::kInvalidArgument,
                    "the size of the structure is none that a version of gpuroom.h has");
    for (size_t i = 0; i < count_; ++i) {
      const Byte* entry = reinterpret_cast<const Byte*>(&(*this)[i]);
      if (std::any_of(entry + sizeof(T), entry + bytes_, [](char byte) { return byte != 0; }))
        return Status(Code::kInvalidArgument,
                      "the structure asks for something that this gpuroom is too old for");
    }
    return Status();
  }

 private:
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;

  T* first_;
  size_t count_;
  size_t bytes_;
};

}  // namespace gpuroom
