// cuMemAlloc, its relatives, and cuMemFree.
#include "runtime/allocate.h"
#include "shim/hooks.h"
#include "shim/real.h"

namespace {

// Rows begin at multiples of this in what cuMemAllocPitch gives.
constexpr size_t kPitchAlignment = 512;

}  // namespace

namespace gpuroom::hooks {

CUresult cuMemAlloc_v2(CUdeviceptr* out, size_t bytes) {
  Entry rt;
  if (!rt || out == nullptr || bytes == 0) return Real().cuMemAlloc_v2(out, bytes);
  return Allocate(*rt, bytes, out, [bytes](CUdeviceptr* p) { return Real().cuMemAlloc_v2(p, bytes); });
}

CUresult cuMemAllocPitch_v2(CUdeviceptr* out, size_t* pitch, size_t width, size_t height, unsigned element) {
  Entry rt;
  const auto native = [&](CUdeviceptr* p) {
    return Real().cuMemAllocPitch_v2(p, pitch, width, height, element);
  };
  size_t bytes = 0;
  const bool valid = out != nullptr && pitch != nullptr && width != 0 && height != 0 &&
                     width < SIZE_MAX - kPitchAlignment &&
                     !__builtin_mul_overflow(RoundUp(width, kPitchAlignment), height, &bytes) &&
                     (element == 4 || element == 8 || element == 16);
  if (!rt || !valid) return native(out);
  const CUresult result = Allocate(*rt, bytes, out, native);
  RangeInfo range;
  ManagedBlock block;
  const bool ours =
      result == CUDA_SUCCESS && (rt->ranges.Find(*out, &range) || rt->managed.Find(*out, &block));
  if (ours) *pitch = RoundUp(width, kPitchAlignment);
  return result;
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  Entry rt;
  if (!rt) return Real().cuMemFree_v2(address);
  return Free(*rt, address, [address] { return Real().cuMemFree_v2(address); });
}

}  // namespace gpuroom::hooks
