// What the program opened in a way that keeps this library out: its own look-ups of the driver find the
// driver. With RTLD_DEEPBIND a library finds the C library's dlsym before ours, and by dlmopen it gets a C
// library, and a driver, of its own. docs/limits.md tells users. One warning a process, and none where the
// GPU is not used. Any thread; nothing here allocates.
#pragma once

namespace gpuroom {

// `how` is a literal, `name` the library's. Logs at once where the process uses the GPU, else once it does.
void NoteUnserved(const char* how, const char* name);
// The process uses the GPU: logs what was noted so far.
void LogUnserved();

}  // namespace gpuroom
