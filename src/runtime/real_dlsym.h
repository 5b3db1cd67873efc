// The C library's own dlsym, which the preloaded library stands in front of.
#pragma once

namespace gpuroom {

// For what runs before the process is ready: ThreadSanitizer looks its functions up
// with dlsym before it can follow any.
#define GPUROOM_UNINSTRUMENTED __attribute__((no_sanitize("thread", "address", "undefined")))

// A function of libdl as the C library has it, behind ours.
GPUROOM_UNINSTRUMENTED void* FindInC(const char* name);
// The C library's dlsym, found without calling dlsym: each time, and once for all.
using DlsymFunction = void* (*)(void*, const char*);
GPUROOM_UNINSTRUMENTED DlsymFunction FindDlsym();
DlsymFunction RealDlsym();

// Whether this library stands in front of the driver in this process, preloaded or linked, so that
// what the program submits passes the gate. False where it was only opened.
bool StandsInFront();

}  // namespace gpuroom
