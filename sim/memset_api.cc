// cuMemset in its kinds. Synchronous ones are ordered on the default stream and,
// as the driver documents, do not make the host wait on device memory.
#include "copy.h"
#include "entry.h"
#include "stream.h"

namespace gpuroom::sim {
namespace {

CUresult Fill(Guard& guard, Box box, uint32_t value, unsigned unit, CUstream handle) {
  CUstream stream = nullptr;
  CUresult result = ResolveStream(handle, &stream);
  if (result != CUDA_SUCCESS) return result;
  if (box.width == 0 || box.height == 0) return CUDA_SUCCESS;
  if (box.start % unit != 0 || box.pageable) return CUDA_ERROR_INVALID_VALUE;
  const Actor actor{guard.context().device, true};  // a memset is a kernel
  result = CheckBox(box, actor, Access::kWrite, Mixed::kRefuse);
  if (result != CUDA_SUCCESS) return result;
  Operation operation;
  operation.kind = CU_GRAPH_NODE_TYPE_MEMSET;
  operation.work = [=] { return FillBox(box, value, unit, actor); };
  return Submit(stream, std::move(operation));
}

CUresult FillSpan(Guard& guard, CUdeviceptr to, uint32_t value, unsigned unit, size_t count,
                  CUstream stream) {
  if (count > SIZE_MAX / unit) return CUDA_ERROR_INVALID_VALUE;
  return Fill(guard, Span(to, count * unit), value, unit, stream);
}

CUresult Fill2D(Guard& guard, CUdeviceptr to, size_t pitch, uint32_t value, unsigned unit, size_t width,
                size_t height, CUstream stream) {
  if (width > SIZE_MAX / unit || (height > 1 && pitch < width * unit)) return CUDA_ERROR_INVALID_VALUE;
  Box box = Span(to, width * unit);
  box.height = height;
  box.pitch = pitch;
  return Fill(guard, box, value, unit, stream);
}

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;

// The synchronous form, the asynchronous form and their rectangles, for one unit.
#define SIM_MEMSET(bits, type)                                                                            \
  SIM_API cuMemsetD##bits##_v2(CUdeviceptr to, type value, size_t count) {                                \
    SIM_ENTER(cuMemsetD##bits, kContext);                                                                 \
    return sim::FillSpan(guard, to, value, bits / 8, count, nullptr);                                     \
  }                                                                                                       \
  SIM_API cuMemsetD##bits##Async(CUdeviceptr to, type value, size_t count, CUstream stream) {             \
    SIM_ENTER(cuMemsetD##bits##Async, kContext);                                                          \
    return sim::FillSpan(guard, to, value, bits / 8, count, stream);                                      \
  }                                                                                                       \
  SIM_API cuMemsetD2D##bits##_v2(CUdeviceptr to, size_t pitch, type value, size_t width, size_t height) { \
    SIM_ENTER(cuMemsetD2D##bits, kContext);                                                               \
    return sim::Fill2D(guard, to, pitch, value, bits / 8, width, height, nullptr);                        \
  }                                                                                                       \
  SIM_API cuMemsetD2D##bits##Async(CUdeviceptr to, size_t pitch, type value, size_t width, size_t height, \
                                   CUstream stream) {                                                     \
    SIM_ENTER(cuMemsetD2D##bits##Async, kContext);                                                        \
    return sim::Fill2D(guard, to, pitch, value, bits / 8, width, height, stream);                         \
  }

SIM_MEMSET(8, unsigned char)
SIM_MEMSET(16, unsigned short)
SIM_MEMSET(32, unsigned int)
