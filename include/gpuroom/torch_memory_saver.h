/* The C functions of torch_memory_saver (those of 0.0.9 and 0.0.10), in libgpuroom.so, so that what drives
 * that library drives gpuroom instead: SGLang, verl, slime. docs/sleep.md says how to point them here.
 *
 * A region is a thread's stretch of time in which what it allocates can be paused: such memory gets the
 * region's tag. Pausing is gpuroom_sleep and resuming gpuroom_wake (gpuroom/sleep.h) of these tags, all or
 * nothing. Unlike the original's, no function ends the process: what fails says so in the log and by its
 * result, and pausing what is paused, or resuming what is not, does nothing.
 *
 * Any thread. Settings named `current` are the calling thread's. */
#ifndef GPUROOM_TORCH_MEMORY_SAVER_H_
#define GPUROOM_TORCH_MEMORY_SAVER_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st; /* cudaStream_t */

/* Whether the thread is in a region. At first as TMS_INIT_ENABLE says (1, true, yes, on: yes). */
void tms_set_interesting_region(bool interesting);
bool tms_get_interesting_region(void);

/* The region's tag, at first "default". A tag has 1 to 56 bytes; control characters, ',' and ';' become '_'.
 * The string that is returned is valid until the thread sets another. */
void tms_set_current_tag(const char* tag);
const char* tms_get_current_tag(void);

/* The tag that memory of the thread's region carries, as gpuroom_sleep knows it; "" outside of regions.
 * Memory that is backed up on disk has another than the rest. Valid until the thread changes a setting. */
const char* gpuroom_region_tag(void);

/* What a pause does to the contents: host memory, a file, or with neither (the default, unless
 * TMS_INIT_ENABLE_CPU_BACKUP or TMS_INIT_ENABLE_DISK_BACKUP says otherwise) they are lost. With both, a file.
 */
void tms_set_enable_cpu_backup(bool enable);
bool tms_get_enable_cpu_backup(void);
void tms_set_enable_disk_backup(bool enable);
bool tms_get_enable_disk_backup(void);
/* Where files go; at first TMS_DISK_BACKUP_DIR. The whole process's. They can be seen there while memory is
 * paused; without either, GPUROOM_SLEEP_DIR has files without names. */
void tms_set_disk_backup_dir(const char* directory);

/* "pinned" (at first, unless TMS_INIT_CPU_BACKUP_BACKEND says "mmap") or "mmap"; others are refused with a
 * line of the log. Remembered and returned: gpuroom chooses by itself what carries a backup, and always keeps
 * host memory for reuse within its limit. */
void tms_set_cpu_backup_backend(const char* backend);
const char* tms_get_cpu_backup_backend(void);
/* Whether what tms_get_cpu_backup_pointer returns stays valid when its memory is resumed, at first as
 * TMS_RETAIN_CPU_BACKUP says. Each pause puts the new contents there, at the same address. Setting it to
 * false drops what is awake. */
void tms_set_retain_cpu_backup(bool retain);
bool tms_get_retain_cpu_backup(void);

/* Gives the GPU memory of regions with this tag back (null: of all regions), and has it again. 0, or -1. */
int tms_pause(const char* tag);
int tms_resume(const char* tag);

/* CUDA ordinals that have memory of regions with this tag (null: of any): fills at most `capacity`, returns
 * how many there are. */
uint32_t tms_affected_devices(const char* tag, int* out, uint32_t capacity);

/* A copy of the `size` bytes at `gpu_ptr`, which is paused with its contents, in host memory; valid until
 * that memory is resumed (or longer: tms_set_retain_cpu_backup), and the same again for the same question.
 * Null: it is not paused, has no contents, or there is no memory for the copy. */
uint8_t* tms_get_cpu_backup_pointer(const uint8_t* gpu_ptr, uint64_t size);

/* An allocation in a region that would leave less free memory than this fails as if there were none.
 * gpuroom/compat.h has it under torch_memory_saver's own name, set_memory_margin_bytes. */
void gpuroom_set_memory_margin(uint64_t bytes);

/* PyTorch's pluggable allocator functions: segments in the current region. */
void* tms_torch_malloc(ssize_t bytes, int device, struct CUstream_st* stream);
void tms_torch_free(void* address, ssize_t bytes, int device, struct CUstream_st* stream);

#ifdef __cplusplus
}
#endif
#endif /* GPUROOM_TORCH_MEMORY_SAVER_H_ */
