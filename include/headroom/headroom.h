/* headroom's public C interface (C11).
 *
 * A program that runs under `headroom run` need not know of it; one that wants
 * to see or to say where its memory lies looks these functions up with
 * dlsym(RTLD_DEFAULT, ...) and does without where they are absent. A program that
 * runs by itself may open libheadroom.so and get memory from
 * headroom/torch_allocator.h; then nothing but that memory is headroom's, and
 * nothing moves but what it asks for.
 * Every function may be called from any thread and never exits or throws. */
#ifndef HEADROOM_HEADROOM_H_
#define HEADROOM_HEADROOM_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What functions return that do more than look. */
typedef enum headroom_result {
  HEADROOM_OK = 0,
  HEADROOM_OUT_OF_MEMORY = 1,    /* the tier asked for has no room */
  HEADROOM_INVALID_ARGUMENT = 2, /* see headroom_last_error() */
  HEADROOM_NOT_FOUND = 3,        /* headroom has placed nothing at that address */
  HEADROOM_UNSUPPORTED = 4,      /* the process does not run under headroom, or this driver cannot do it */
  HEADROOM_FAILED = 5,           /* a driver or system call failed; see headroom_last_error() */
  HEADROOM_BUSY = 6 /* not now: a capture is in progress, the memory is shared, or the GPU stays busy */
} headroom_result;

typedef enum headroom_tier {
  HEADROOM_TIER_DEVICE = 0, /* the GPU's own memory (HBM) */
  HEADROOM_TIER_PEER = 1,   /* another GPU's */
  HEADROOM_TIER_HOST = 2
} headroom_tier;

typedef enum headroom_policy {
  HEADROOM_POLICY_DEFAULT = -1, /* as `headroom run --policy` or HEADROOM_POLICY says */
  HEADROOM_POLICY_GPU_FIRST = 0,
  HEADROOM_POLICY_BALANCED = 1,
  HEADROOM_POLICY_CPU_FIRST = 2
} headroom_policy;

typedef enum headroom_backend {
  HEADROOM_BACKEND_DEFAULT = -1, /* as `headroom run --backend` or HEADROOM_BACKEND says */
  HEADROOM_BACKEND_TIERS = 0,    /* chunks, placed by plan */
  HEADROOM_BACKEND_MANAGED = 1   /* CUDA managed memory, placed by the driver */
} headroom_backend;

typedef enum headroom_hint {
  HEADROOM_HINT_NONE = 0,
  HEADROOM_HINT_HOT = 1,   /* HBM at any size, and the last to give way */
  HEADROOM_HINT_COLD = 2,  /* outside HBM while there is room, and the first to give way */
  HEADROOM_HINT_STREAM = 3 /* read front to back once a pass: spread over all tiers */
} headroom_hint;

/* Where one allocation, or one cuMemMap of the program's own, lies. All sizes in bytes;
 * device_bytes + peer_bytes + host_bytes == bytes, but 0 each while it is asleep (headroom/sleep.h). */
typedef struct headroom_placement {
  uint64_t address;      /* first device address of the allocation */
  uint64_t bytes;        /* size, as mapped (a multiple of the granularity) */
  uint64_t device_bytes; /* of these, in the GPU's own memory (HBM) */
  uint64_t peer_bytes;   /* of these, in other GPUs' memory */
  uint64_t host_bytes;   /* of these, in host memory */
  int32_t device;        /* CUDA ordinal the memory belongs to */
  int32_t hint;          /* headroom_hint */
} headroom_placement;

/* Fills *out for the allocation that holds `address`. Returns 0, or -1 where headroom
 * has not placed it: a small allocation, which is the driver's own, managed memory, which the
 * driver moves as it likes, or none. */
int headroom_describe(uint64_t address, headroom_placement* out);

/* One stretch of memory that is to lie in another tier. */
typedef struct headroom_move {
  uint64_t address; /* in: anywhere in an allocation */
  uint64_t bytes;   /* in: from there on; chunks that it touches move whole. 0: all of the allocation */
  int32_t tier;     /* in: headroom_tier */
  int32_t result;   /* out: headroom_result of this move alone */
  uint64_t moved;   /* out: bytes that now lie in `tier` and did not before */
} headroom_move;

/* Moves memory between tiers; addresses and contents stay. Waits for all work on the GPU
 * and holds other threads' submissions back meanwhile, once for the whole batch. Where the program
 * only opened the library, submissions are not held back: see to it that no thread submits
 * work on this memory meanwhile. What fails stays where
 * it was, whole and usable. Returns HEADROOM_OK if every move did what it could be
 * asked (what already lies there counts), else the first failure. HEADROOM_BUSY during a capture. */
int headroom_migrate_batch(headroom_move* moves, size_t count);

/* The same for one stretch. */
int headroom_range_migrate(uint64_t address, uint64_t bytes, int tier);

/* What the program knows of the allocation that holds `address`. Moves nothing by itself. */
int headroom_set_hint(uint64_t address, int hint);

/* Hint and tag (which rules may name; null: none) for what this thread allocates from now on. The
 * tag is copied; at most 63 bytes. */
int headroom_set_thread_hint(int hint, const char* tag);

/* The same, with policy and backend (headroom_policy, headroom_backend). Rules of --rules outweigh it. */
int headroom_set_thread_placement(int policy, int backend, int hint, const char* tag);

/* What headroom holds of one device's memory, in this process, in bytes and counts. A limit of
 * UINT64_MAX: none. Grows at the end in later versions. */
typedef struct headroom_stats {
  uint64_t device_limit; /* of HBM */
  uint64_t device_used;  /* small allocations, and chunks, of this process */
  uint64_t peer_limit;   /* other GPUs' memory that this device may use */
  uint64_t peer_used;
  uint64_t host_limit;    /* of the node's processes together */
  uint64_t host_used;     /* chunks in use by this process */
  uint64_t host_kept;     /* and those kept for reuse */
  uint64_t managed_limit; /* the managed backend's cap */
  uint64_t managed_used;
  uint64_t allocations;     /* so far; a pool's segments count, not what it gives out of them */
  uint64_t spilled;         /* of these, with bytes outside HBM when they were made */
  uint64_t displaced_bytes; /* that gave way so far */
  /* The pool behind headroom_torch_malloc; all 0 before its first use. */
  uint64_t pool_allocated;      /* in blocks that the program holds */
  uint64_t pool_reserved;       /* in segments */
  uint64_t pool_peak_allocated; /* with what waits to be given out again */
  uint64_t pool_peak_reserved;
  uint64_t pool_allocations; /* so far, and the following likewise */
  uint64_t pool_frees;
  uint64_t pool_segments_created;
  uint64_t pool_segments_destroyed;
  uint64_t pool_out_of_memory; /* requests that got none */
  uint64_t asleep_bytes;       /* of this device's memory that is asleep (headroom/sleep.h) */
} headroom_stats;

/* Fills the first `bytes` bytes of *out (pass sizeof(headroom_stats)) for CUDA ordinal `device`. A consistent
 * picture only while nothing is allocated or freed. */
int headroom_get_stats(int device, headroom_stats* out, size_t bytes);

/* Gives what the pool of `device` caches, and host memory kept for reuse, back. Waits for work on the GPU. */
int headroom_trim(int device);

/* Brings the memory from `address` on (bytes 0: the whole allocation) to `tier` (device or host): managed
 * memory by cuMemPrefetchAsync on `stream` (a CUstream; null: the default stream of the memory's device), in
 * its order; else as headroom_range_migrate does, at once. */
int headroom_prefetch(uint64_t address, uint64_t bytes, int tier, void* stream);

/* One sentence on the last failure of this thread's calls; "" if there was none. Valid until
 * its next call. */
const char* headroom_last_error(void);

#ifdef __cplusplus
}
#endif
#endif /* HEADROOM_HEADROOM_H_ */
