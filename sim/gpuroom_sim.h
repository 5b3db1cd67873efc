/* Control functions of the simulated driver, for tests. Its libcuda.so.1
 * exports them; a real driver has none of them, so look them up with
 * dlsym and do without where they are absent. All may be called from any
 * thread, before cuInit too, and touch no CUDA state that a program sees. */
#ifndef GPUROOM_SIM_GPUROOM_SIM_H_
#define GPUROOM_SIM_GPUROOM_SIM_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Calls so far of the driver function `name`, without version suffix
 * ("cuMemMap"); "*" counts every call that can fail. */
uint64_t gpuroom_sim_call_count(const char* name);

/* Launches so far that asked to begin while the kernel before them runs
 * (CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION). */
uint64_t gpuroom_sim_early_launches(void);

/* Makes calls fail; the syntax of GPUROOM_SIM_FAIL:
 *   cuMemMap:3                          the third call from now, out of memory
 *   cuMemMap:3:CUDA_ERROR_INVALID_VALUE (or the number) with that result
 *   cuMemMap:3+                         and all calls after it
 *   cuMemCreate.HOST_NUMA:3             the third call that asks for DEVICE, HOST or HOST_NUMA memory
 *   *:N                                 the N-th call of any function
 *   seed:S:P                            every call with P percent, from seed S
 * several separated by commas. Replaces earlier rules; NULL or "" clears. A
 * failed call does nothing else. Malformed rules are named on stderr. */
void gpuroom_sim_fail(const char* spec);

/* Number of live handles, mappings, reservations and allocations of every
 * kind, with one line for each in `text` (may be NULL), cut at `size`. */
int gpuroom_sim_leaks(char* text, size_t size);

/* Bytes of HBM in use on `device`, the context's own share left out; device
 * -1-n: bytes in chunks on host node n. */
uint64_t gpuroom_sim_used(int device);

/* The same of the machine's GPU `number`, which CUDA_VISIBLE_DEVICES may give another
 * ordinal or hide from this process. */
uint64_t gpuroom_sim_machine_used(int number);

/* Host memory of the simulated machine, in bytes. */
uint64_t gpuroom_sim_host_bytes(void);

/* Misuse seen so far (use after unmap, double free, ...), with one line each. */
int gpuroom_sim_strict_errors(char* text, size_t size);
void gpuroom_sim_clear_strict_errors(void);

#ifdef __cplusplus
}
#endif
#endif /* GPUROOM_SIM_GPUROOM_SIM_H_ */
