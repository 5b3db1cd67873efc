// The hooks of hooks.def, as functions of this namespace under the driver's names. What programs get are the
// entries of gpuroom_hooks, which let no exception out: a hook that finds no memory for its own records
// answers as the driver does where it has none. (The hooks of submit.def are in submit.h.)
#pragma once

#include <exception>

#include "shim/real.h"

namespace gpuroom::hooks {

#define GPUROOM_HOOK(name, symbol, since, stream) decltype(::symbol) symbol;
#include "shim/hooks.def"

}  // namespace gpuroom::hooks

namespace gpuroom {

enum HookIndex : int {
#define GPUROOM_HOOK(name, symbol, since, stream) kHook_##symbol,
#include "shim/hooks.def"
  kHookCount
};

// By HookIndex, filled by the linker. exports_*.S jumps through it, so that the library also exports them by
// name.
extern "C" __attribute__((visibility("hidden"))) void* const gpuroom_hooks[kHookCount];

// What a hook's exception means to the program. std::exception is all that this library's code throws, and
// all that is caught: the end of a thread (pthread_cancel, pthread_exit) passes.
CUresult ResultOfException(const std::exception& error);

}  // namespace gpuroom
