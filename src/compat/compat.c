#include "gpuroom/compat.h"

#include "gpuroom/torch_allocator.h"
#include "gpuroom/torch_memory_saver.h"

#pragma GCC visibility push(default)

void* managed_malloc(ssize_t bytes, int device, struct CUstream_st* stream) {
  return gpuroom_managed_malloc(bytes, device, stream);
}

void managed_free(void* address, ssize_t bytes, int device, struct CUstream_st* stream) {
  gpuroom_managed_free(address, bytes, device, stream);
}

void set_memory_margin_bytes(uint64_t bytes) { gpuroom_set_memory_margin(bytes); }

#pragma GCC visibility pop
