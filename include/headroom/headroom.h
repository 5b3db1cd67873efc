/* headroom's public C interface (C11).
 *
 * A program that runs under `headroom run` need not know of it; one that wants
 * to see where its memory lies looks these functions up with
 * dlsym(RTLD_DEFAULT, ...) and does without where they are absent.
 * Every function may be called from any thread and never exits or throws. */
#ifndef HEADROOM_HEADROOM_H_
#define HEADROOM_HEADROOM_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where one allocation, or one cuMemMap of the program's own, lies. All sizes in bytes; device_bytes +
 * host_bytes == bytes. */
typedef struct headroom_placement {
  uint64_t address;      /* first device address of the allocation */
  uint64_t bytes;        /* size, as mapped (a multiple of the granularity) */
  uint64_t device_bytes; /* of these, in the GPU's own memory (HBM) */
  uint64_t host_bytes;   /* of these, in host memory */
  int32_t device;        /* CUDA ordinal the memory belongs to */
  int32_t reserved;
} headroom_placement;

/* Fills *out for the allocation that holds `address`. Returns 0, or -1 where headroom
 * has not placed it (a small allocation, which is the driver's own, or none). */
int headroom_describe(uint64_t address, headroom_placement* out);

#ifdef __cplusplus
}
#endif
#endif /* HEADROOM_HEADROOM_H_ */
