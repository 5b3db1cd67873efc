/* Sleep and wake: gives the GPU's memory back and keeps every address.
 *
 * Memory carries the tag that its thread had when it was allocated (gpuroom_set_thread_hint). A sleep
 * takes what has certain tags, backs it up or drops it, and gives the physical memory back; a wake makes it
 * again at the same addresses, with its contents. What sleeps: allocations of at least the range threshold
 * (16 MiB; with a tag 2 MiB), and memory of such sizes that the program made with cuMemCreate and mapped.
 * What stays awake: smaller ones and stream-ordered ones that the driver's pools serve, which have no tag;
 * managed memory; memory that other processes have open. Pointers, CUDA graphs and streams stay valid;
 * touching memory that is asleep is an error of the program, as gpuroom_sleep_request.hold says.
 *
 * Every function may be called from any thread, never exits or throws, and returns a gpuroom_result;
 * gpuroom_last_error() has the sentence. */
#ifndef GPUROOM_SLEEP_H_
#define GPUROOM_SLEEP_H_

#include "gpuroom/gpuroom.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gpuroom_sleep_action {
  GPUROOM_SLEEP_KEEP = 0, /* back up to host memory */
  GPUROOM_SLEEP_DISK = 1, /* back up to a file, which is gone when this process ends */
  GPUROOM_SLEEP_DROP = 2, /* contents are lost; after the wake they are undefined */
  GPUROOM_SLEEP_STAY = 3  /* stays awake */
} gpuroom_sleep_action;

/* What launches and copies do while something is asleep. Under gpuroom run: where the program only opened
 * the library, they do not pass it and go on. */
typedef enum gpuroom_hold {
  GPUROOM_HOLD_NONE = 0, /* they go on: the program knows what is asleep. Copies and memsets to memory that
                             is asleep are refused with CUDA_ERROR_ILLEGAL_STATE and a line in the log */
  GPUROOM_HOLD_WAIT = 1, /* all of them wait until nothing sleeps any more */
  GPUROOM_HOLD_FAIL = 2  /* all of them are refused with CUDA_ERROR_ILLEGAL_STATE and a line in the log */
} gpuroom_hold;

/* The one structure that does not grow. */
typedef struct gpuroom_tag_action {
  const char* tag; /* "": memory without a tag; null: whatever no other entry names */
  int32_t action;  /* gpuroom_sleep_action */
} gpuroom_tag_action;

typedef struct gpuroom_sleep_request {
  const gpuroom_tag_action* tags; /* what is named by none stays awake */
  size_t tag_count;               /* 0: everything, GPUROOM_SLEEP_KEEP */
  const char* directory;          /* for GPUROOM_SLEEP_DISK; null: GPUROOM_SLEEP_DIR, else an error */
  int32_t hold;                   /* gpuroom_hold; holds until the wake after which nothing is asleep */
  int32_t verify;                 /* not 0: a wake compares checksums */
} gpuroom_sleep_request;

/* Of a sleep or a wake, in bytes unless said otherwise. */
typedef struct gpuroom_sleep_report {
  uint64_t ranges;      /* allocations that went to sleep or woke */
  uint64_t kept;        /* sleep: backed up to host memory. wake: restored with their contents */
  uint64_t on_disk;     /* sleep: backed up to files */
  uint64_t dropped;     /* sleep: contents lost. wake: made anew, contents undefined */
  uint64_t released;    /* sleep: GPU memory given back. lazy wake: not in it yet */
  uint64_t left_awake;  /* sleep: GPU memory of this process that was named and cannot sleep */
  uint64_t nanoseconds; /* from the call to its return */
} gpuroom_sleep_report;

/* Puts memory to sleep, all that the request names or nothing of it. Waits for all work on the GPU, and holds
 * other threads' submissions back meanwhile. What is asleep already stays as it is. `out` may be null, else
 * its first `out_bytes` bytes are filled. GPUROOM_NOT_FOUND: a tag that no memory has ever had. GPUROOM_BUSY:
 * a capture is in progress, or the GPU does not come to rest. GPUROOM_OUT_OF_MEMORY: no room for backups. */
int gpuroom_sleep(const gpuroom_sleep_request* request, size_t request_bytes, gpuroom_sleep_report* out,
                  size_t out_bytes);

/* Wakes what has these tags ("": without a tag; `count` 0: everything), first what is named first; all or
 * nothing. What is awake stays as it is. `lazy`: returns as soon as everything can be read where it lies; it
 * moves to the GPU in the background, or, where the program only opened the library, when it is told to
 * (gpuroom_migrate_batch). What is in the way gives way to it under gpuroom run. On failure everything is
 * asleep as before, backups whole: free memory and wake again, or wake less. */
int gpuroom_wake(const char* const* tags, size_t count, int lazy, gpuroom_sleep_report* out,
                 size_t out_bytes);

/* Where the memory with one tag is, in bytes. awake + kept + on_disk + dropped is all of it. */
typedef struct gpuroom_tag_state {
  char tag[64]; /* "": without a tag */
  uint64_t ranges;
  uint64_t awake;
  uint64_t awake_on_gpu; /* of `awake`, in the memory of GPUs */
  uint64_t kept;
  uint64_t on_disk;
  uint64_t dropped;
} gpuroom_tag_state;

/* Fills at most `capacity` entries of `bytes` bytes, one for each tag that memory of this process has, and
 * sets *count to how many there are. */
int gpuroom_sleep_states(gpuroom_tag_state* out, size_t capacity, size_t* count, size_t bytes);

/* 1: what this thread allocates from now on need not outlive a sleep: any action drops it. 0: it need. */
int gpuroom_set_thread_dispensable(int dispensable);

#ifdef __cplusplus
}
#endif
#endif /* GPUROOM_SLEEP_H_ */
