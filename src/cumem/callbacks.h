// The two functions that init_module was given, and how they are called. All of it with Python's lock held.
// What a callback raises is printed as an exception that nobody can catch (sys.unraisablehook): the callers
// are C.
#pragma once

#include "cumem/allocations.h"
#include "cumem/python.h"

namespace gpuroom::cumem {

// Keeps both from now on, instead of those before.
void SetCallbacks(PyObject* on_malloc, PyObject* on_free);
bool HaveCallbacks();

// The malloc callback with (device, bytes, address, handle or handles). False: it raised.
bool TellOfMalloc(const Grant& grant);

// The free callback with the address. What it gives back is looked at, to tell of a program that has lost
// track, and not needed. False: it raised, or gave back something else than that address's four values.
bool TellOfFree(uint64_t va);

// The four arguments of python_create_and_map and python_unmap_and_release; false with an exception set.
bool ReadClaim(PyObject* arguments, Claim* claim);

}  // namespace gpuroom::cumem
