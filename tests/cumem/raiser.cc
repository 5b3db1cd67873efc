// Calls my_free while an exception is on its way, as PyTorch does when one unwinds through tensors: Python's
// own finalizers set it aside, those in C do not.
#include "cumem/python.h"

extern "C" __attribute__((visibility("default"))) PyObject* gpuroom_free_and_raise(void* my_free,
                                                                                   void* pointer) {
  PyErr_SetString(PyExc_KeyError, "mine");
  reinterpret_cast<void (*)(void*, long, int, void*)>(my_free)(pointer, 0, 0, nullptr);  // NOLINT
  return nullptr;
}
