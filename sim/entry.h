// How every exported driver function begins. SIM_ENTER counts the call, takes
// the State's lock for its duration, refuses it in a forked child, in a host
// function or without initialisation or context, injects failures, and (Unsafe)
// refuses it while a capture forbids it. After it, `guard` is in scope.
#pragma once

#include <cuda.h>

#include "behaviour.h"
#include "inject.h"
#include "state.h"

#define SIM_API extern "C" __attribute__((visibility("default"))) CUresult CUDAAPI

#define SIM_ENTER(function, need)                                     \
  static ::gpuroom::sim::CallSite call_site(#function);               \
  ::gpuroom::sim::Guard guard(call_site, ::gpuroom::sim::Need::need); \
  if (guard.result() != CUDA_SUCCESS) return guard.result()

namespace gpuroom::sim {

enum class Need {
  kNothing,  // not even cuInit
  kInit,
  kContext,  // and a healthy current context
  kUnsafe,   // kContext, and refused by captures in progress
};

class Guard {
 public:
  Guard(CallSite& site, Need need);
  CUresult result() const { return result_; }
  Lock& lock() { return lock_; }
  State& state() { return state_; }
  // For functions that look at their arguments before the context.
  CUresult RequireContext();
  CUctx_st& context() { return *context_; }  // only after kContext or kUnsafe
  ThreadState& thread() { return thread_; }

 private:
  CUresult Check(const CallSite& site, Need need);
  State& state_;
  ThreadState& thread_;
  Lock lock_;
  CUcontext context_ = nullptr;
  CUresult result_;
};

// The current context of this thread, or null.
CUcontext CurrentContext();

// Makes the calls of a _ptsz or _ptds variant mean the per-thread stream.
class PerThreadScope {
 public:
  PerThreadScope() : saved_(GetThread().per_thread_default) { GetThread().per_thread_default = true; }
  ~PerThreadScope() { GetThread().per_thread_default = saved_; }
  PerThreadScope(const PerThreadScope&) = delete;
  PerThreadScope& operator=(const PerThreadScope&) = delete;

 private:
  bool saved_;
};

}  // namespace gpuroom::sim
