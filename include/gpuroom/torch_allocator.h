/* The functions that PyTorch's pluggable allocator takes (PyTorch 2.9 and later), in libgpuroom.so.
 *
 *   torch.cuda.memory.CUDAPluggableAllocator(path, "gpuroom_torch_malloc", "gpuroom_torch_free")
 *
 * with torch.cuda.memory.change_current_allocator: every tensor comes from gpuroom's pool. The
 * functions under "hooks" belong to it; the Python package sets them (gpuroom.torch.use()).
 *
 *   torch.cuda.memory.CUDAPluggableAllocator(path, "gpuroom_segment_malloc", "gpuroom_segment_free")
 *
 * behind torch.cuda.MemPool: PyTorch caches, gpuroom gives it segments (gpuroom.torch.pool()).
 *
 * The library and the allocator object have to outlive all memory. Any thread. `stream` is the
 * CUstream that uses the memory first. */
#ifndef GPUROOM_TORCH_ALLOCATOR_H_
#define GPUROOM_TORCH_ALLOCATOR_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st; /* cudaStream_t */

/* `bytes` of `device` from the pool, ready on `stream`. Where there are none, PyTorch would make a tensor of
 * a null pointer, so a std::runtime_error is thrown, which Python sees as RuntimeError. For lack of memory it
 * begins with "CUDA out of memory"; for anything else (a driver below 580, an error that the GPU's work left
 * behind) it says what failed. Null where the process has no C++ runtime that can be found, or for no bytes.
 *
 * The pool's segments sleep (gpuroom/sleep.h) as other memory does, by the tag that the thread had which
 * needed a new one. The pool knows no tags: tensors of several tags may share a segment, and while one
 * sleeps, new tensors may come to lie in it, to be used after the wake. Where tags matter, use
 * gpuroom_segment_malloc behind a MemPool for each. */
void* gpuroom_torch_malloc(ssize_t bytes, int device, struct CUstream_st* stream);
/* Gives it back in the order of `stream`. `bytes` is not used. Does not wait. */
void gpuroom_torch_free(void* address, ssize_t bytes, int device, struct CUstream_st* stream);

/* One allocation for each call, placed as the thread's placement says; null when there is no memory, which
 * PyTorch's MemPool turns into torch.OutOfMemoryError after it gave back what it caches. */
void* gpuroom_segment_malloc(ssize_t bytes, int device, struct CUstream_st* stream);
/* Waits for the context's work. */
void gpuroom_segment_free(void* address, ssize_t bytes, int device, struct CUstream_st* stream);

/* The same in managed memory. gpuroom/compat.h has it under the names of the GH200 project's allocator. */
void* gpuroom_managed_malloc(ssize_t bytes, int device, struct CUstream_st* stream);
void gpuroom_managed_free(void* address, ssize_t bytes, int device, struct CUstream_st* stream);

/* Hooks: for the setters of torch.cuda.memory.CUDAPluggableAllocator's allocator object. */
void gpuroom_torch_init(int device_count);
void gpuroom_torch_reset(void); /* empty_cache: gives free segments back */
/* The pool of `device` takes at most this part of its memory, as PyTorch sees it. */
void gpuroom_torch_memory_fraction(double fraction, int device);
/* First address of the segment that holds `address`, and its size; null where no block in use holds it. */
void* gpuroom_torch_base_alloc(void* address, size_t* bytes);
void gpuroom_torch_record_stream(void* address, struct CUstream_st* stream);

#ifdef __cplusplus
}

#include <functional>
#include <utility>

/* PyTorch passes these C++ types (c10::cuda::MempoolId_t is the pair). */
extern "C" {
using gpuroom_mempool_id = std::pair<unsigned long long, unsigned long long>;
void gpuroom_torch_begin_allocate_to_pool(int device, gpuroom_mempool_id id,
                                          std::function<bool(CUstream_st*)> filter);
void gpuroom_torch_end_allocate_to_pool(int device, gpuroom_mempool_id id);
void gpuroom_torch_release_pool(int device, gpuroom_mempool_id id);
}
#endif
#endif /* GPUROOM_TORCH_ALLOCATOR_H_ */
