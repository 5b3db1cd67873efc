// Error: the one sentence that a failed call leaves, in the form that people know from vLLM's module of this
// name: "CUDA Error: out of memory at allocations.cc:88 (cuMemCreate of 2097152 bytes)". In a fixed buffer:
// telling of a lack of memory must not need any.
#pragma once

namespace gpuroom::cumem {

class Error {
 public:
  // The first failure counts; what fails while it is undone does not replace it.
  void Set(const char* what, const char* file, int line, const char* format, ...)
      __attribute__((format(printf, 5, 6)));
  bool set() const { return text_[0] != 0; }
  const char* text() const { return text_; }

 private:
  char text_[640] = {};
};

// What a driver says of a bad argument, for those that we find ourselves.
inline constexpr char kInvalidArgument[] = "invalid argument";

}  // namespace gpuroom::cumem

#define GPUROOM_CUMEM_FAIL(error, what, ...) (error)->Set(what, __FILE__, __LINE__, __VA_ARGS__)
