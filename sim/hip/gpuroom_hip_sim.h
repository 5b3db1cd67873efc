/* Control functions of the simulated HIP, for tests: find them with dlsym. */
#ifndef GPUROOM_SIM_HIP_GPUROOM_HIP_SIM_H_
#define GPUROOM_SIM_HIP_GPUROOM_HIP_SIM_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Calls so far of the function `name`; "*" counts every call that can fail. */
uint64_t gpuroom_hip_sim_call_count(const char* name);
/* Makes calls fail: "hipMemMap:3" the third from now, out of memory; "hipMemMap:3:1" with that result; "*:N"
 * the N-th of all; "hipMemMap:3+" the third and all after it. Several separated by commas. NULL or "" clears.
 * GPUROOM_SIM_FAIL sets it at the start. */
void gpuroom_hip_sim_fail(const char* spec);
/* Live handles, mappings and reservations, with a line for each in `text` (may be NULL). */
int gpuroom_hip_sim_leaks(char* text, size_t size);
/* Bytes of physical memory in use on a device, and how many there are at most. */
uint64_t gpuroom_hip_sim_used(int device);
void gpuroom_hip_sim_set_capacity(uint64_t bytes);
/* While on, what waits for the device is refused, as during a stream's capture. */
void gpuroom_hip_sim_set_capturing(int on);
/* Misuse seen so far, with a line for each. */
int gpuroom_hip_sim_strict_errors(char* text, size_t size);

#ifdef __cplusplus
}
#endif
#endif /* GPUROOM_SIM_HIP_GPUROOM_HIP_SIM_H_ */
