#include "cumem/callbacks.h"

namespace gpuroom::cumem {
namespace {

PyObject* g_on_malloc = nullptr;  // under Python's lock
PyObject* g_on_free = nullptr;

constexpr char kWantsFour[] = "Expected a tuple of size 4";

void Replace(PyObject** kept, PyObject* callback) {
  PyObject* before = *kept;
  Py_INCREF(callback);
  *kept = callback;
  Py_XDECREF(before);  // last: it may run Python code
}

PyObject* NewNumber(uint64_t value) { return PyLong_FromUnsignedLongLong(value); }

PyObject* NewPiece(const Grant::Piece& piece) {
  const Owned address(NewNumber(piece.handle_address));
  const Owned bytes(NewNumber(piece.bytes));
  return address && bytes ? PyTuple_Pack(2, address.get(), bytes.get()) : nullptr;
}

// One handle's address, or [(address, bytes), ...].
PyObject* NewHandles(const Grant& grant) {
  if (!grant.listed) return NewNumber(grant.pieces.front().handle_address);
  PyObject* list = PyList_New(0);
  for (const Grant::Piece& piece : grant.pieces) {
    const Owned pair(list != nullptr ? NewPiece(piece) : nullptr);
    if (list == nullptr || (pair && PyList_Append(list, pair.get()) == 0)) continue;
    Py_DECREF(list);
    return nullptr;
  }
  return list;
}

PyObject* NewTuple(const Grant& grant) {
  const Owned device(PyLong_FromLong(grant.device));
  const Owned bytes(NewNumber(grant.bytes));
  const Owned va(NewNumber(grant.va));
  const Owned handles(NewHandles(grant));
  if (!device || !bytes || !va || !handles) return nullptr;
  return PyTuple_Pack(4, device.get(), bytes.get(), va.get(), handles.get());
}

// The callback's answer, or null with the exception printed.
PyObject* Call(PyObject* callback, PyObject* argument) {
  // init_module may replace it while it runs.
  Py_INCREF(callback);
  const Owned held(callback);
  PyObject* answer =
      argument != nullptr ? PyObject_CallFunctionObjArgs(callback, argument, nullptr) : nullptr;
  if (answer == nullptr) PyErr_WriteUnraisable(callback);
  return answer;
}

bool ReadNumber(PyObject* object, uint64_t* value) {
  *value = PyLong_AsUnsignedLongLong(object);
  return PyErr_Occurred() == nullptr;
}

bool ReadHandles(PyObject* object, Claim* claim) {
  claim->handles = 1;
  if (!PyList_Check(object)) return ReadNumber(object, &claim->first_handle);
  const Py_ssize_t size = PyList_Size(object);
  PyObject* first = size > 0 ? PyList_GetItem(object, 0) : nullptr;
  if (first == nullptr || !PyTuple_Check(first) || PyTuple_Size(first) != 2) {
    PyErr_SetString(PyExc_TypeError, "Expected a list of (address, size) tuples");
    return false;
  }
  claim->handles = static_cast<size_t>(size);
  return ReadNumber(PyTuple_GetItem(first, 0), &claim->first_handle);
}

}  // namespace

void SetCallbacks(PyObject* on_malloc, PyObject* on_free) {
  Replace(&g_on_malloc, on_malloc);
  Replace(&g_on_free, on_free);
}

bool HaveCallbacks() { return g_on_malloc != nullptr && g_on_free != nullptr; }

bool TellOfMalloc(const Grant& grant) {
  const Owned tuple(NewTuple(grant));
  const Owned answer(Call(g_on_malloc, tuple.get()));
  return static_cast<bool>(answer);
}

bool TellOfFree(uint64_t va) {
  const Owned address(NewNumber(va));
  const Owned answer(Call(g_on_free, address.get()));
  if (!answer) return false;
  Claim claim;
  bool same = ReadClaim(answer.get(), &claim) && claim.va == va;
  if (!same && PyErr_Occurred() == nullptr) {
    PyErr_Format(PyExc_ValueError, "the free callback was asked for address %llu and gave that of %llu",
                 static_cast<unsigned long long>(va), static_cast<unsigned long long>(claim.va));
  }
  if (!same) PyErr_WriteUnraisable(g_on_free);
  return same;
}

bool ReadClaim(PyObject* arguments, Claim* claim) {
  if (!PyTuple_Check(arguments) || PyTuple_Size(arguments) != 4) {
    PyErr_SetString(PyExc_TypeError, kWantsFour);
    return false;
  }
  // Device and size are those of our own record; but what is no number is a mistake.
  uint64_t ignored = 0;
  return ReadNumber(PyTuple_GetItem(arguments, 0), &ignored) &&
         ReadNumber(PyTuple_GetItem(arguments, 1), &ignored) &&
         ReadNumber(PyTuple_GetItem(arguments, 2), &claim->va) &&
         ReadHandles(PyTuple_GetItem(arguments, 3), claim);
}

}  // namespace gpuroom::cumem
