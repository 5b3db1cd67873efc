// Python's C interface, of the stable ABI alone, so that one file serves CPython 3.9 and newer; and who holds
// its lock (the GIL).
#pragma once

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x03090000
#endif
#include <python3/Python.h>

namespace gpuroom::cumem {

// While one lives this thread may call Python, whether it held the lock before or not. An exception that was
// on its way (memory is freed while one unwinds, too) is set aside and comes back.
class InPython {
 public:
  InPython() : state_(PyGILState_Ensure()) { PyErr_Fetch(&type_, &value_, &trace_); }
  ~InPython() {
    PyErr_Restore(type_, value_, trace_);
    PyGILState_Release(state_);
  }
  InPython(const InPython&) = delete;
  InPython& operator=(const InPython&) = delete;

 private:
  const PyGILState_STATE state_;
  PyObject* type_ = nullptr;
  PyObject* value_ = nullptr;
  PyObject* trace_ = nullptr;
};

// While one lives this thread, which held the lock, does not: for calls of the driver, which may take long,
// and may wait for a host function that needs Python.
class OutOfPython {
 public:
  OutOfPython() : thread_(PyEval_SaveThread()) {}
  ~OutOfPython() { PyEval_RestoreThread(thread_); }
  OutOfPython(const OutOfPython&) = delete;
  OutOfPython& operator=(const OutOfPython&) = delete;

 private:
  PyThreadState* const thread_;
};

// A reference of one's own.
class Owned {
 public:
  explicit Owned(PyObject* object) : object_(object) {}
  ~Owned() { Py_XDECREF(object_); }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  PyObject* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* const object_;
};

}  // namespace gpuroom::cumem
