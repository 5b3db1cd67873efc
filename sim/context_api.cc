// Primary and ordinary contexts, and each thread's stack of them.
#include <utility>

#include "capture.h"
#include "context.h"
#include "entry.h"
#include "pool.h"
#include "stream.h"

namespace gpuroom::sim {

CUcontext NewContext(int device, unsigned flags, bool primary) {
  auto* context = new CUctx_st;
  context->device = device;
  context->flags = flags;
  context->primary = primary;
  GetState().contexts.insert(context);
  GetState().NoteContext(device);
  return context;
}

void EndContext(CUcontext context) {
  AbandonWork(context);
  AbandonCaptures(context);
  std::erase_if(GetState().events, [context](CUevent event) {
    const bool ends = event->context == context;
    if (ends) delete event;
    return ends;
  });
  FreeContextArrays(context);
  FreeContextMemory(context);
  GetState().contexts.erase(context);
  if (!context->primary) GetState().ended.push_back(context);
}

namespace {

// The primary context of a device keeps its address for good.
CUcontext RevivePrimary(Device& device, int ordinal) {
  if (device.retired == nullptr) return NewContext(ordinal, device.primary_flags, true);
  const CUcontext context = std::exchange(device.retired, nullptr);
  GetState().ended.push_back(new CUctx_st(std::exchange(*context, CUctx_st{})));
  context->device = ordinal;
  context->flags = device.primary_flags;
  context->primary = true;
  GetState().contexts.insert(context);
  return context;
}

void EndPrimary(Device& device) {
  EndContext(device.primary);
  device.retired = std::exchange(device.primary, nullptr);
  device.primary_references = 0;
}

Device* FindDevice(State& state, CUdevice device) {
  if (device < 0 || device >= static_cast<int>(state.devices.size())) return nullptr;
  return &state.devices[static_cast<size_t>(device)];
}

CUresult CreateContext(Guard& guard, CUcontext* out, unsigned flags, CUdevice device) {
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (FindDevice(guard.state(), device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  *out = NewContext(device, flags, false);
  guard.thread().contexts.push_back(*out);
  return CUDA_SUCCESS;
}

size_t DefaultLimit(CUlimit limit) {
  switch (limit) {
    case CU_LIMIT_STACK_SIZE: return 1024;
    case CU_LIMIT_PRINTF_FIFO_SIZE: return 7 * kMiB;
    case CU_LIMIT_MALLOC_HEAP_SIZE: return 8 * kMiB;
    case CU_LIMIT_MAX_L2_FETCH_GRANULARITY: return 64;
    default: return 0;
  }
}

}  // namespace
}  // namespace gpuroom::sim

using gpuroom::sim::FindDevice;

SIM_API cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice ordinal) {
  SIM_ENTER(cuDevicePrimaryCtxRetain, kInit);
  auto* device = FindDevice(guard.state(), ordinal);
  if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (device->primary == nullptr) {
    device->primary = gpuroom::sim::RevivePrimary(*device, ordinal);
  }
  ++device->primary_references;
  *context = device->primary;
  return CUDA_SUCCESS;
}

SIM_API cuDevicePrimaryCtxRelease_v2(CUdevice ordinal) {
  SIM_ENTER(cuDevicePrimaryCtxRelease, kInit);
  auto* device = FindDevice(guard.state(), ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (device->primary_references == 0) return CUDA_ERROR_INVALID_CONTEXT;
  if (--device->primary_references == 0) {
    gpuroom::sim::DrainContext(guard.lock(), device->primary);
    gpuroom::sim::EndPrimary(*device);
  }
  return CUDA_SUCCESS;
}

SIM_API cuDevicePrimaryCtxReset_v2(CUdevice ordinal) {
  SIM_ENTER(cuDevicePrimaryCtxReset, kInit);
  auto* device = FindDevice(guard.state(), ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (device->primary != nullptr) gpuroom::sim::EndPrimary(*device);
  return CUDA_SUCCESS;
}

SIM_API cuDevicePrimaryCtxSetFlags_v2(CUdevice ordinal, unsigned int flags) {
  SIM_ENTER(cuDevicePrimaryCtxSetFlags, kInit);
  auto* device = FindDevice(guard.state(), ordinal);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if ((flags & ~CU_CTX_FLAGS_MASK) != 0) return CUDA_ERROR_INVALID_VALUE;
  device->primary_flags = flags;
  if (device->primary != nullptr) device->primary->flags = flags;
  return CUDA_SUCCESS;
}

SIM_API cuDevicePrimaryCtxGetState(CUdevice ordinal, unsigned int* flags, int* active) {
  SIM_ENTER(cuDevicePrimaryCtxGetState, kInit);
  auto* device = FindDevice(guard.state(), ordinal);
  if (flags == nullptr || active == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  *flags = device->primary_flags;
  *active = device->primary != nullptr;
  return CUDA_SUCCESS;
}

SIM_API cuCtxCreate_v2(CUcontext* context, unsigned int flags, CUdevice device) {
  SIM_ENTER(cuCtxCreate, kInit);
  return gpuroom::sim::CreateContext(guard, context, flags, device);
}

SIM_API cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam*, int, unsigned int flags, CUdevice device) {
  SIM_ENTER(cuCtxCreate, kInit);
  return gpuroom::sim::CreateContext(guard, context, flags, device);
}

SIM_API cuCtxCreate_v4(CUcontext* context, CUctxCreateParams*, unsigned int flags, CUdevice device) {
  SIM_ENTER(cuCtxCreate, kInit);
  return gpuroom::sim::CreateContext(guard, context, flags, device);
}

SIM_API cuCtxDestroy_v2(CUcontext context) {
  SIM_ENTER(cuCtxDestroy, kInit);
  if (!guard.state().contexts.contains(context)) return CUDA_ERROR_INVALID_CONTEXT;
  if (context->primary) return CUDA_ERROR_INVALID_CONTEXT;
  gpuroom::sim::DrainContext(guard.lock(), context);
  auto& stack = guard.thread().contexts;
  if (!stack.empty() && stack.back() == context) stack.pop_back();
  gpuroom::sim::EndContext(context);
  return CUDA_SUCCESS;
}

SIM_API cuCtxGetCurrent(CUcontext* context) {
  SIM_ENTER(cuCtxGetCurrent, kInit);
  if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *context = gpuroom::sim::CurrentContext();
  return CUDA_SUCCESS;
}

SIM_API cuCtxSetCurrent(CUcontext context) {
  SIM_ENTER(cuCtxSetCurrent, kInit);
  auto& stack = guard.thread().contexts;
  if (context != nullptr && !guard.state().contexts.contains(context)) return CUDA_ERROR_INVALID_CONTEXT;
  if (!stack.empty()) stack.pop_back();
  if (context != nullptr) stack.push_back(context);
  return CUDA_SUCCESS;
}

SIM_API cuCtxPushCurrent_v2(CUcontext context) {
  SIM_ENTER(cuCtxPushCurrent, kInit);
  if (!guard.state().contexts.contains(context)) return CUDA_ERROR_INVALID_CONTEXT;
  guard.thread().contexts.push_back(context);
  return CUDA_SUCCESS;
}

SIM_API cuCtxPopCurrent_v2(CUcontext* context) {
  SIM_ENTER(cuCtxPopCurrent, kInit);
  auto& stack = guard.thread().contexts;
  if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (context != nullptr) *context = stack.back();
  stack.pop_back();
  return CUDA_SUCCESS;
}

SIM_API cuCtxGetDevice(CUdevice* device) {
  SIM_ENTER(cuCtxGetDevice, kContext);
  if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *device = guard.context().device;
  return CUDA_SUCCESS;
}

SIM_API cuCtxGetFlags(unsigned int* flags) {
  SIM_ENTER(cuCtxGetFlags, kContext);
  if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *flags = guard.context().flags;
  return CUDA_SUCCESS;
}

SIM_API cuCtxGetApiVersion(CUcontext context, unsigned int* version) {
  SIM_ENTER(cuCtxGetApiVersion, kInit);
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (context != nullptr && !guard.state().contexts.contains(context)) return CUDA_ERROR_INVALID_CONTEXT;
  *version = 3020;
  return CUDA_SUCCESS;
}

SIM_API cuCtxGetId(CUcontext context, unsigned long long* id) {
  SIM_ENTER(cuCtxGetId, kInit);
  if (context == nullptr) context = gpuroom::sim::CurrentContext();
  if (id == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (!guard.state().contexts.contains(context)) return CUDA_ERROR_INVALID_CONTEXT;
  *id = reinterpret_cast<unsigned long long>(context);
  return CUDA_SUCCESS;
}

SIM_API cuCtxSynchronize() {
  SIM_ENTER(cuCtxSynchronize, kContext);
  const CUresult refused = gpuroom::sim::RefuseCapturing(&guard.context());
  if (refused != CUDA_SUCCESS) return refused;
  const CUresult result = gpuroom::sim::DrainContext(guard.lock(), &guard.context());
  gpuroom::sim::TrimPools();
  return result;
}

SIM_API cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  SIM_ENTER(cuCtxGetStreamPriorityRange, kContext);
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = -5;
  return CUDA_SUCCESS;
}

SIM_API cuCtxGetLimit(size_t* value, CUlimit limit) {
  SIM_ENTER(cuCtxGetLimit, kContext);
  if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (limit >= CU_LIMIT_MAX) return CUDA_ERROR_UNSUPPORTED_LIMIT;
  const auto found = guard.context().limits.find(limit);
  *value = found != guard.context().limits.end() ? found->second : gpuroom::sim::DefaultLimit(limit);
  return CUDA_SUCCESS;
}

SIM_API cuCtxSetLimit(CUlimit limit, size_t value) {
  SIM_ENTER(cuCtxSetLimit, kContext);
  if (limit >= CU_LIMIT_MAX) return CUDA_ERROR_UNSUPPORTED_LIMIT;
  guard.context().limits[limit] = value;
  return CUDA_SUCCESS;
}

SIM_API cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags) {
  SIM_ENTER(cuCtxEnablePeerAccess, kContext);
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (!guard.state().contexts.contains(peer)) return CUDA_ERROR_INVALID_CONTEXT;
  const int from = guard.context().device;
  if (from == peer->device || !guard.state().Linked(from, peer->device))
    return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
  bool& enabled = guard.state().peer_enabled[from][peer->device];
  if (enabled) return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
  enabled = true;
  return CUDA_SUCCESS;
}

SIM_API cuCtxDisablePeerAccess(CUcontext peer) {
  SIM_ENTER(cuCtxDisablePeerAccess, kContext);
  if (!guard.state().contexts.contains(peer)) return CUDA_ERROR_INVALID_CONTEXT;
  bool& enabled = guard.state().peer_enabled[guard.context().device][peer->device];
  if (!enabled) return CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
  enabled = false;
  return CUDA_SUCCESS;
}
