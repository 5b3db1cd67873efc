// A C++ library that Python opens for itself alone, as it does PyTorch's, and that calls an allocator.
#include <cstddef>
#include <cstdio>
#include <stdexcept>

extern "C" __attribute__((visibility("default"))) bool CallAllocator(void* (*allocate)(ptrdiff_t, int, void*),
                                                                     ptrdiff_t bytes, char* text,
                                                                     size_t size) {
  try {
    std::snprintf(text, size, "%p", allocate(bytes, 0, nullptr));
    return true;
  } catch (const std::runtime_error& error) {
    std::snprintf(text, size, "%s", error.what());
    return false;
  }
}
