// cumem_allocator: stands in for the extension module of that name in vLLM. Two functions for PyTorch's
// pluggable allocator, called from any thread, and three for Python. Python's lock is held where Python is
// called and nowhere else; no exception, of Python's or of C++'s, leaves the two C functions.
#include <sys/types.h>

#include <cstdio>
#include <exception>
#include <new>

#include "base/write_signals.h"
#include "cumem/allocations.h"
#include "cumem/callbacks.h"
#include "cumem/python.h"

namespace gpuroom::cumem {
namespace {

Allocations& All() {
  static auto* all = new Allocations;  // PyTorch frees until the very end
  return *all;
}

void PrintLine(const char* text) {
  const WriteSignalsBlocked blocked;
  std::fprintf(stderr, "%s\n", text);
}

void Print(const Error& error) { PrintLine(error.text()); }

Claim ClaimOf(const Grant& grant) {
  return {grant.va, grant.pieces.front().handle_address, grant.pieces.size()};
}

bool Reserve(ssize_t size, int device, Grant* grant, Error* error) {
  const OutOfPython out;
  try {
    return All().Reserve(size, device, grant, error);
  } catch (const std::bad_alloc&) {
    GPUROOM_CUMEM_FAIL(error, "out of memory", "the host has no memory for the record of %lld bytes",
                       static_cast<long long>(size));
    return false;
  }
}

bool Map(const Grant& grant, Error* error) {
  const OutOfPython out;
  return All().CreateAndMap(ClaimOf(grant), error);
}

void FreeOrPrint(uint64_t va) {
  Error error;
  if (!All().Free(va, &error)) Print(error);
}

void FreeOutOfPython(uint64_t va) {
  const OutOfPython out;
  FreeOrPrint(va);
}

bool KnowsOrPrint(uint64_t va) {
  const OutOfPython out;
  Error error;
  const bool known = All().Knows(va, &error);
  if (!known) Print(error);
  return known;
}

// With Python's lock.
void Free(uint64_t va) {
  if (!KnowsOrPrint(va)) return;
  if (HaveCallbacks()) TellOfFree(va);
  FreeOutOfPython(va);
}

// The address, or 0 with everything undone and a reason printed. With Python's lock.
uint64_t Malloc(ssize_t size, int device) {
  if (!HaveCallbacks()) {
    PrintLine("ERROR: g_python_malloc_callback not set; call init_module first.");
    return 0;
  }
  Error error;
  Grant grant;
  if (!Reserve(size, device, &grant, &error)) {
    Print(error);
    return 0;
  }
  if (!TellOfMalloc(grant)) {
    FreeOutOfPython(grant.va);
    return 0;
  }
  if (Map(grant, &error)) return grant.va;
  Print(error);
  // The malloc callback has noted it; the program would put to sleep what is not there.
  TellOfFree(grant.va);
  FreeOutOfPython(grant.va);
  return 0;
}

PyObject* InitModule(PyObject*, PyObject* arguments) {
  PyObject* on_malloc = nullptr;
  PyObject* on_free = nullptr;
  if (PyArg_ParseTuple(arguments, "OO", &on_malloc, &on_free) == 0) return nullptr;
  if (PyCallable_Check(on_malloc) == 0 || PyCallable_Check(on_free) == 0) {
    PyErr_SetString(PyExc_TypeError, "Both arguments must be callables");
    return nullptr;
  }
  SetCallbacks(on_malloc, on_free);
  Py_RETURN_NONE;
}

template <bool (Allocations::*kStep)(const Claim&, Error*)>
PyObject* Step(PyObject*, PyObject* arguments) {
  Claim claim;
  if (!ReadClaim(arguments, &claim)) return nullptr;
  Error error;
  bool done = false;
  {
    const OutOfPython out;
    done = (All().*kStep)(claim, &error);
  }
  if (done) Py_RETURN_NONE;
  PyErr_SetString(PyExc_RuntimeError, error.text());
  return nullptr;
}

PyMethodDef g_methods[] = {
    {"init_module", InitModule, METH_VARARGS,
     "init_module(malloc_callback, free_callback): what my_malloc and my_free tell."},
    {"python_create_and_map", Step<&Allocations::CreateAndMap>, METH_VARARGS,
     "python_create_and_map(device, size, address, handle): makes memory at the address again."},
    {"python_unmap_and_release", Step<&Allocations::UnmapAndRelease>, METH_VARARGS,
     "python_unmap_and_release(device, size, address, handle): gives the memory back, and keeps the "
     "address."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef g_module = {
    PyModuleDef_HEAD_INIT,
    "cumem_allocator",
    "gpuroom's cumem_allocator: device memory that can be given back and keeps its address.",
    -1,
    g_methods,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace
}  // namespace gpuroom::cumem

namespace cumem = gpuroom::cumem;

extern "C" __attribute__((visibility("default"))) void* my_malloc(ssize_t size, int device,
                                                                  void* stream) try {
  (void)stream;  // mapping waits for nothing
  if (Py_IsInitialized() == 0) return nullptr;
  const cumem::InPython in;
  return reinterpret_cast<void*>(cumem::Malloc(size, device));  // NOLINT
} catch (const std::exception&) {
  return nullptr;
}

extern "C" __attribute__((visibility("default"))) void my_free(void* pointer, ssize_t size, int device,
                                                               void* stream) try {
  (void)size, (void)device, (void)stream;  // the record knows better
  const auto va = reinterpret_cast<uint64_t>(pointer);
  // PyTorch frees also after Python's end; there is nobody to tell then.
  if (Py_IsInitialized() == 0) return cumem::FreeOrPrint(va);
  const cumem::InPython in;
  cumem::Free(va);
} catch (const std::exception& error) {
  cumem::PrintLine(error.what());
}

PyMODINIT_FUNC PyInit_cumem_allocator() { return PyModule_Create(&cumem::g_module); }
