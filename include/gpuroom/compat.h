/* Functions of other projects whose names say nothing of the project they belong to. They lie in a library of
 * their own, libgpuroom_compat.so beside libgpuroom.so, which nothing preloads: a program that opens it means
 * these, and no other program's functions of the same names are replaced. It passes each call on to
 * libgpuroom.so. */
#ifndef GPUROOM_COMPAT_H_
#define GPUROOM_COMPAT_H_

#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st; /* cudaStream_t */

/* The GH200 project's pluggable allocator: gpuroom_managed_malloc and gpuroom_managed_free
 * (gpuroom/torch_allocator.h). */
void* managed_malloc(ssize_t bytes, int device, struct CUstream_st* stream);
void managed_free(void* address, ssize_t bytes, int device, struct CUstream_st* stream);

/* torch_memory_saver's: gpuroom_set_memory_margin (gpuroom/torch_memory_saver.h). */
void set_memory_margin_bytes(uint64_t bytes);

#ifdef __cplusplus
}
#endif
#endif /* GPUROOM_COMPAT_H_ */
