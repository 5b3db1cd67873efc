/* gpuroom's public C interface (C11).
 *
 * A program that runs under `gpuroom run` need not know of it; one that wants
 * to see or to say where its memory lies looks these functions up with
 * dlsym(RTLD_DEFAULT, ...) and does without where they are absent. A program that
 * runs by itself may open libgpuroom.so and get memory from
 * gpuroom/torch_allocator.h; then nothing but that memory is gpuroom's, and
 * nothing moves but what it asks for.
 * Every function may be called from any thread and never exits or throws.
 *
 * Structures grow at their end in later versions, so a function that takes one also takes its size: pass
 * sizeof, as the program was compiled. What the library does not know of a structure that it fills becomes 0.
 * In one that it reads, what it does not know has to be 0, which stands for what older versions did; else the
 * answer is GPUROOM_INVALID_ARGUMENT. */
#ifndef GPUROOM_GPUROOM_H_
#define GPUROOM_GPUROOM_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What functions return that do more than look. */
typedef enum gpuroom_result {
  GPUROOM_OK = 0,
  GPUROOM_OUT_OF_MEMORY = 1,    /* the tier asked for has no room */
  GPUROOM_INVALID_ARGUMENT = 2, /* see gpuroom_last_error() */
  GPUROOM_NOT_FOUND = 3,        /* gpuroom has placed nothing at that address */
  GPUROOM_UNSUPPORTED = 4,      /* the process does not run under gpuroom, or this driver cannot do it */
  GPUROOM_FAILED = 5,           /* a driver or system call failed; see gpuroom_last_error() */
  GPUROOM_BUSY = 6 /* not now: a capture is in progress, the memory is shared, or the GPU stays busy */
} gpuroom_result;

typedef enum gpuroom_tier {
  GPUROOM_TIER_DEVICE = 0, /* the GPU's own memory (HBM) */
  GPUROOM_TIER_PEER = 1,   /* another GPU's */
  GPUROOM_TIER_HOST = 2
} gpuroom_tier;

typedef enum gpuroom_policy {
  GPUROOM_POLICY_DEFAULT = -1, /* as `gpuroom run --policy` or GPUROOM_POLICY says */
  GPUROOM_POLICY_GPU_FIRST = 0,
  GPUROOM_POLICY_BALANCED = 1,
  GPUROOM_POLICY_CPU_FIRST = 2
} gpuroom_policy;

typedef enum gpuroom_backend {
  GPUROOM_BACKEND_DEFAULT = -1, /* as `gpuroom run --backend` or GPUROOM_BACKEND says */
  GPUROOM_BACKEND_TIERS = 0,    /* chunks, placed by plan */
  GPUROOM_BACKEND_MANAGED = 1   /* CUDA managed memory, placed by the driver */
} gpuroom_backend;

typedef enum gpuroom_hint {
  GPUROOM_HINT_NONE = 0,
  GPUROOM_HINT_HOT = 1,   /* HBM at any size, and the last to give way */
  GPUROOM_HINT_COLD = 2,  /* outside HBM while there is room, and the first to give way */
  GPUROOM_HINT_STREAM = 3 /* read front to back once a pass: spread over all tiers */
} gpuroom_hint;

/* Where one allocation, or one cuMemMap of the program's own, lies. All sizes in bytes;
 * device_bytes + peer_bytes + host_bytes == bytes, but 0 each while it is asleep (gpuroom/sleep.h). */
typedef struct gpuroom_placement {
  uint64_t address;      /* first device address of the allocation */
  uint64_t bytes;        /* size, as mapped (a multiple of the granularity); of a small one, as asked for */
  uint64_t device_bytes; /* of these, in the GPU's own memory (HBM) */
  uint64_t peer_bytes;   /* of these, in other GPUs' memory */
  uint64_t host_bytes;   /* of these, in host memory */
  int32_t device;        /* CUDA ordinal the memory belongs to */
  int32_t hint;          /* gpuroom_hint */
} gpuroom_placement;

/* Fills the first `bytes` bytes of *out for the allocation that holds `address`. Returns 0, or -1 where
 * gpuroom has not placed it: a small allocation that fits in HBM, which is the driver's own, managed memory,
 * which the driver moves as it likes, or none. */
int gpuroom_describe(uint64_t address, gpuroom_placement* out, size_t bytes);

/* One stretch of memory that is to lie in another tier. */
typedef struct gpuroom_move {
  uint64_t address; /* in: anywhere in an allocation */
  uint64_t bytes;   /* in: from there on; chunks that it touches move whole. 0: all of the allocation */
  int32_t tier;     /* in: gpuroom_tier */
  int32_t result;   /* out: gpuroom_result of this move alone */
  uint64_t moved;   /* out: bytes that now lie in `tier` and did not before */
} gpuroom_move;

/* Moves memory between tiers; addresses and contents stay. Waits for all work on the GPU
 * and holds other threads' submissions back meanwhile, once for the whole batch. Where the program
 * only opened the library, submissions are not held back: see to it that no thread submits
 * work on this memory meanwhile. What fails stays where
 * it was, whole and usable. Returns GPUROOM_OK if every move did what it could be
 * asked (what already lies there counts), else the first failure. GPUROOM_BUSY during a capture.
 * An allocation that was last moved to HBM whole comes back by itself after it gave way. What a move sent to
 * the host stays there, also when another part of the same allocation is moved to HBM. `bytes`:
 * sizeof(gpuroom_move). */
int gpuroom_migrate_batch(gpuroom_move* moves, size_t count, size_t bytes);

/* The same for one stretch. */
int gpuroom_range_migrate(uint64_t address, uint64_t bytes, int tier);

/* What the program knows of the allocation that holds `address`. Moves nothing by itself. */
int gpuroom_set_hint(uint64_t address, int hint);

/* Hint and tag (which rules may name; null: none) for what this thread allocates from now on. The
 * tag is copied; at most 63 bytes. */
int gpuroom_set_thread_hint(int hint, const char* tag);

/* The same, with policy and backend (gpuroom_policy, gpuroom_backend). Rules of --rules outweigh it. */
int gpuroom_set_thread_placement(int policy, int backend, int hint, const char* tag);

/* What gpuroom holds of one device's memory, in this process, in bytes and counts. A limit of
 * UINT64_MAX: none. */
typedef struct gpuroom_stats {
  uint64_t device_limit; /* of HBM */
  uint64_t device_used;  /* small allocations, and chunks, of this process */
  uint64_t peer_limit;   /* other GPUs' memory that this device may use */
  uint64_t peer_used;
  uint64_t host_limit;    /* of the node's processes together, or the device's part */
  uint64_t host_used;     /* chunks in use by this process */
  uint64_t host_kept;     /* and those kept for reuse */
  uint64_t managed_limit; /* the managed backend's cap */
  uint64_t managed_used;
  uint64_t allocations;     /* so far; a pool's segments count, not what it gives out of them */
  uint64_t spilled;         /* of these, with bytes outside HBM when they were made */
  uint64_t displaced_bytes; /* that gave way so far */
  /* The pool behind gpuroom_torch_malloc; all 0 before its first use. */
  uint64_t pool_allocated;      /* in blocks that the program holds */
  uint64_t pool_reserved;       /* in segments */
  uint64_t pool_peak_allocated; /* with what waits to be given out again */
  uint64_t pool_peak_reserved;
  uint64_t pool_allocations; /* so far, and the following likewise */
  uint64_t pool_frees;
  uint64_t pool_segments_created;
  uint64_t pool_segments_destroyed;
  uint64_t pool_out_of_memory; /* requests that got none */
  uint64_t asleep_bytes;       /* of this device's memory that is asleep (gpuroom/sleep.h) */
  uint64_t device_total;       /* HBM that may be used: the limit, or all that the GPU has */
  uint64_t device_free;        /* HBM that a large allocation could have now; the reserve is left out */
} gpuroom_stats;

/* Fills the first `bytes` bytes of *out for CUDA ordinal `device`. A consistent
 * picture only while nothing is allocated or freed. */
int gpuroom_get_stats(int device, gpuroom_stats* out, size_t bytes);

/* Writes what `gpuroom run --report` prints as a process exits, as it is now: one line for each GPU that the
 * process has used, each with a newline. As snprintf does, it writes at most `bytes` bytes, of which the last
 * is 0, and returns how many bytes there are without that one. 0: no GPU was used. */
size_t gpuroom_report(char* out, size_t bytes);

/* Keeps `bytes` of the HBM of `device` for small allocations that are still to come, in place of --reserve.
 * For a program that has made nearly all of them: what the reserve loses, large allocations can have. Any
 * thread. */
int gpuroom_set_reserve(int device, uint64_t bytes);

/* Gives what the pool of `device` caches, and host memory kept for reuse, back. Waits for work on the GPU. */
int gpuroom_trim(int device);

/* Brings the memory from `address` on (bytes 0: the whole allocation) to `tier` (device or host): managed
 * memory by cuMemPrefetchAsync on `stream` (a CUstream; null: the default stream of the memory's device), in
 * its order; else as gpuroom_range_migrate does, at once. */
int gpuroom_prefetch(uint64_t address, uint64_t bytes, int tier, void* stream);

/* One sentence on the last failure of this thread's calls; "" if there was none. Valid until
 * its next call. */
const char* gpuroom_last_error(void);

#ifdef __cplusplus
}
#endif
#endif /* GPUROOM_GPUROOM_H_ */
