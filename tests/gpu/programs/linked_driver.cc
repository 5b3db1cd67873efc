// A program that links libcuda the ordinary way (-lcuda): its calls go through
// the dynamic linker, not through dlsym. Prints one JSON line.
#include <cuda.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  unsigned long long expected = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 0;
  CUdevice device = 0;
  CUcontext context = nullptr;
  size_t total = 0, free_bytes = 0, info_total = 0, size = 0;
  CUdeviceptr pointer = 0, base = 0;
  if (cuInit(0) != CUDA_SUCCESS || cuDeviceGet(&device, 0) != CUDA_SUCCESS) {
    std::printf("{\"skip\": \"no usable GPU\"}\n");
    return 77;
  }
  unsigned char bytes[4] = {0};
  bool calls = cuDevicePrimaryCtxRetain(&context, device) == CUDA_SUCCESS &&
               cuCtxSetCurrent(context) == CUDA_SUCCESS && cuDeviceTotalMem(&total, device) == CUDA_SUCCESS &&
               cuMemGetInfo(&free_bytes, &info_total) == CUDA_SUCCESS &&
               cuMemAlloc(&pointer, size_t{64} << 20) == CUDA_SUCCESS &&
               cuMemsetD8(pointer, 0xa5, size_t{64} << 20) == CUDA_SUCCESS &&
               cuMemcpyDtoH(bytes, pointer + (size_t{64} << 20) - 4, 4) == CUDA_SUCCESS &&
               cuMemGetAddressRange(&base, &size, pointer + 4096) == CUDA_SUCCESS &&
               cuMemFree(pointer) == CUDA_SUCCESS;
  bool right = bytes[0] == 0xa5 && bytes[3] == 0xa5 && base == pointer && size == size_t{64} << 20;
  bool totals = total == info_total && (expected == 0 || total == expected);
  std::printf(
      "{\"program\": \"linked_driver\", \"checks\": [{\"name\": \"calls\", \"ok\": %s, \"detail\": \"\"}, "
      "{\"name\": \"values\", \"ok\": %s, \"detail\": \"\"}, {\"name\": \"totals\", \"ok\": %s, \"detail\": "
      "\"%zu and %zu\"}], \"figures\": {}}\n",
      calls ? "true" : "false", right ? "true" : "false", totals ? "true" : "false", total, info_total);
  return calls && right && totals ? 0 : 1;
}
