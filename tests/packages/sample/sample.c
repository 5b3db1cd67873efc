/* Makes one allocation on the simulated driver and asks gpuroom where it lies. Needs no CUDA. */
#include <gpuroom/gpuroom.h>
#include <stdint.h>
#include <stdio.h>

extern int cuInit(unsigned flags);
extern int cuDeviceGetCount(int* count);

int main(void) {
  int count = 0;
  gpuroom_placement placement = {0};
  if (cuInit(0) != 0 || cuDeviceGetCount(&count) != 0) {
    fprintf(stderr, "no driver\n");
    return 1;
  }
  /* Address 4096 is in no allocation. */
  printf("devices %d, %s\n", count,
         gpuroom_describe(4096, &placement, sizeof placement) == 0 ? "placed" : "not placed");
  return 0;
}
