// A library that asks for the next definition of a symbol after itself, as
// wrappers do. The C library finds the caller of RTLD_NEXT by its return address.
#include <dlfcn.h>

extern "C" {

__attribute__((visibility("default"))) void* AskNext(const char* name) {
  void* found = dlsym(RTLD_NEXT, name);
  // No tail call: this library is the caller.
  __asm__ volatile("" ::: "memory");
  return found;
}

// A symbol that the test program and this library both define.
__attribute__((visibility("default"))) int gpuroom_test_which() { return 2; }
}
