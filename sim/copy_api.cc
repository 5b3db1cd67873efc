// cuMemcpy in its kinds. Each is one operation on a stream: a synchronous call
// uses the default stream and waits; an asynchronous one from pageable memory
// takes the bytes at once, one to pageable memory waits.
#include <cstring>

#include "copy.h"
#include "entry.h"
#include "report.h"
#include "stream.h"

namespace gpuroom::sim {
namespace {

constexpr uint64_t kStagingLimit = 16 * kMiB;

enum class Wait { kNo, kYes };

struct Transfer {
  Box to;
  Box from;
};

bool Contiguous(const Box& box) { return box.height == 1 && box.depth == 1; }

// Bytes of pageable memory are read now, as the driver's staging buffer does.
void Stage(Transfer transfer, Actor actor, Operation* operation) {
  auto staged = std::make_shared<std::vector<char>>(
      reinterpret_cast<const char*>(transfer.from.start),
      reinterpret_cast<const char*>(transfer.from.start) + transfer.from.width);
  transfer.from.start = reinterpret_cast<CUdeviceptr>(staged->data());
  operation->work = [transfer, actor, staged] { return CopyBox(transfer.to, transfer.from, actor); };
}

bool IsHostMemory(Guard& guard, const Box& box) {
  if (box.pageable) return true;
  const Region* region = guard.state().va.Find(box.start);
  return region != nullptr && region->kind == RegionKind::kHost;
}

// Where a copy concerns two GPUs (by its contexts or by cuMemAlloc memory of both),
// the driver crashes on a host chunk that only one of them may access.
void CrashOnUnsharedHostChunks(Guard& guard, const Transfer& transfer, Actor actor) {
  uint64_t devices = uint64_t{1} << actor.device;
  std::vector<const Region*> host_chunks;
  for (const Box* box : {&transfer.to, &transfer.from}) {
    if (box->pageable || !Contiguous(*box)) continue;
    if (box->device >= 0) devices |= uint64_t{1} << box->device;
    guard.state().va.ForEach(box->start, box->width, [&](Region& region) {
      if (region.kind == RegionKind::kAlloc) devices |= uint64_t{1} << region.device;
      if (region.kind == RegionKind::kVmm && !region.chunk->place.is_device()) host_chunks.push_back(&region);
    });
  }
  for (const Region* region : host_chunks) {
    for (size_t device = 0; devices >> device != 0; ++device) {
      if ((devices >> device & 1) != 0 && region->access.device[device] == 0) {
        CrashAsDriver("a copy between devices of host memory that only one of them may access");
      }
    }
  }
}

CUresult Run(Guard& guard, const Transfer& transfer, CUstream handle, Wait wait) {
  CUstream stream = nullptr;
  CUresult result = ResolveStream(handle, &stream);
  const Actor actor{guard.context().device};
  const Mixed mixed = IsHostMemory(guard, transfer.to) || IsHostMemory(guard, transfer.from)
                          ? Mixed::kHostFaults
                          : Mixed::kAllow;
  if (result == CUDA_SUCCESS) result = CheckBox(transfer.to, actor, Access::kWrite, mixed);
  if (result == CUDA_SUCCESS) result = CheckBox(transfer.from, actor, Access::kRead, mixed);
  if (result != CUDA_SUCCESS || transfer.to.width == 0) return result;
  CrashOnUnsharedHostChunks(guard, transfer, actor);
  Operation operation;
  operation.kind = CU_GRAPH_NODE_TYPE_MEMCPY;
  const bool capturing = stream->capture != nullptr;
  const bool stage = wait == Wait::kNo && !capturing && transfer.from.pageable && Contiguous(transfer.from) &&
                     transfer.from.width <= kStagingLimit;
  if (stage) {
    Stage(transfer, actor, &operation);
  } else {
    operation.work = [transfer, actor] { return CopyBox(transfer.to, transfer.from, actor); };
    if (!capturing && (transfer.to.pageable || transfer.from.pageable)) wait = Wait::kYes;
  }
  if (stage && transfer.to.pageable) wait = Wait::kYes;
  MarkPtr mark;
  if (wait == Wait::kYes) operation.record = mark = std::make_shared<Mark>();
  result = Submit(stream, std::move(operation));
  if (result != CUDA_SUCCESS || mark == nullptr) return result;
  WaitForMark(guard.lock(), mark);
  return guard.context().sticky;
}

// A device address that the driver does not know is refused, not taken for the host's.
CUresult RunSpans(Guard& guard, CUdeviceptr to, bool to_device, CUdeviceptr from, bool from_device,
                  size_t bytes, CUstream stream, Wait wait) {
  if (bytes == 0) return CUDA_SUCCESS;
  Transfer transfer{Span(to, bytes), Span(from, bytes)};
  if (to == 0 || from == 0) return CUDA_ERROR_INVALID_VALUE;
  if ((to_device && transfer.to.pageable) || (from_device && transfer.from.pageable)) {
    return behaviour::kUnknownAddress;
  }
  return Run(guard, transfer, stream, wait);
}

// Between contexts each side counts by the rights of its own.
CUresult RunPeer(Guard& guard, CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                 size_t bytes, CUstream stream, Wait wait) {
  State& state = guard.state();
  if (bytes == 0) return CUDA_SUCCESS;
  if (!state.contexts.contains(to_context) || !state.contexts.contains(from_context))
    return CUDA_ERROR_INVALID_CONTEXT;
  Transfer transfer{Span(to, bytes), Span(from, bytes)};
  if (transfer.to.pageable || transfer.from.pageable) return behaviour::kUnknownAddress;
  transfer.to.device = to_context->device;
  transfer.from.device = from_context->device;
  return Run(guard, transfer, stream, wait);
}

CUdeviceptr Address(const void* host) { return reinterpret_cast<CUdeviceptr>(host); }

// One side of a 2D or 3D copy; false for arrays, which are not simulated.
bool Side(CUmemorytype type, const void* host, CUdeviceptr device, size_t pitch, size_t rows, Box* box) {
  if (type == CU_MEMORYTYPE_ARRAY) return false;
  box->start = type == CU_MEMORYTYPE_HOST ? Address(host) : device;
  box->pitch = pitch;
  box->slice = pitch * rows;
  return box->start != 0 &&
         (type == CU_MEMORYTYPE_HOST || type == CU_MEMORYTYPE_DEVICE || type == CU_MEMORYTYPE_UNIFIED);
}

void Shape(Box* box, size_t width, size_t height, size_t depth, size_t x, size_t y, size_t z) {
  box->width = width;
  box->height = height;
  box->depth = depth;
  if (box->pitch == 0) box->pitch = width;
  if (box->slice == 0) box->slice = box->pitch * height;
  box->start += x + y * box->pitch + z * box->slice;
  box->pageable = !IsKnown(box->start);
}

CUresult Run2D(Guard& guard, const CUDA_MEMCPY2D* copy, CUstream stream, Wait wait) {
  if (copy == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (copy->WidthInBytes == 0 || copy->Height == 0) return CUDA_SUCCESS;
  Transfer t;
  if (!Side(copy->dstMemoryType, copy->dstHost, copy->dstDevice, copy->dstPitch, copy->Height, &t.to) ||
      !Side(copy->srcMemoryType, copy->srcHost, copy->srcDevice, copy->srcPitch, copy->Height, &t.from)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if ((t.to.pitch != 0 && t.to.pitch < copy->WidthInBytes) ||
      (t.from.pitch != 0 && t.from.pitch < copy->WidthInBytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Shape(&t.to, copy->WidthInBytes, copy->Height, 1, copy->dstXInBytes, copy->dstY, 0);
  Shape(&t.from, copy->WidthInBytes, copy->Height, 1, copy->srcXInBytes, copy->srcY, 0);
  return Run(guard, t, stream, wait);
}

CUresult Run3D(Guard& guard, const CUDA_MEMCPY3D* copy, CUstream stream, Wait wait) {
  if (copy == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (copy->WidthInBytes == 0 || copy->Height == 0 || copy->Depth == 0) return CUDA_SUCCESS;
  Transfer t;
  if (!Side(copy->dstMemoryType, copy->dstHost, copy->dstDevice, copy->dstPitch, copy->dstHeight, &t.to) ||
      !Side(copy->srcMemoryType, copy->srcHost, copy->srcDevice, copy->srcPitch, copy->srcHeight, &t.from)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Shape(&t.to, copy->WidthInBytes, copy->Height, copy->Depth, copy->dstXInBytes, copy->dstY, copy->dstZ);
  Shape(&t.from, copy->WidthInBytes, copy->Height, copy->Depth, copy->srcXInBytes, copy->srcY, copy->srcZ);
  return Run(guard, t, stream, wait);
}

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;
using sim::Wait;

SIM_API cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  SIM_ENTER(cuMemcpy, kContext);
  return sim::RunSpans(guard, to, false, from, false, bytes, nullptr, Wait::kYes);
}

SIM_API cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  SIM_ENTER(cuMemcpyAsync, kContext);
  return sim::RunSpans(guard, to, false, from, false, bytes, stream, Wait::kNo);
}

SIM_API cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  SIM_ENTER(cuMemcpyHtoD, kContext);
  return sim::RunSpans(guard, to, true, sim::Address(from), false, bytes, nullptr, Wait::kYes);
}

SIM_API cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  SIM_ENTER(cuMemcpyHtoDAsync, kContext);
  return sim::RunSpans(guard, to, true, sim::Address(from), false, bytes, stream, Wait::kNo);
}

SIM_API cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  SIM_ENTER(cuMemcpyDtoH, kContext);
  return sim::RunSpans(guard, sim::Address(to), false, from, true, bytes, nullptr, Wait::kYes);
}

SIM_API cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  SIM_ENTER(cuMemcpyDtoHAsync, kContext);
  return sim::RunSpans(guard, sim::Address(to), false, from, true, bytes, stream, Wait::kNo);
}

// Device to device: ordered on the default stream, but the host does not wait.
SIM_API cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  SIM_ENTER(cuMemcpyDtoD, kContext);
  return sim::RunSpans(guard, to, true, from, true, bytes, nullptr, Wait::kNo);
}

SIM_API cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  SIM_ENTER(cuMemcpyDtoDAsync, kContext);
  return sim::RunSpans(guard, to, true, from, true, bytes, stream, Wait::kNo);
}

SIM_API cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                     size_t bytes) {
  SIM_ENTER(cuMemcpyPeer, kContext);
  return sim::RunPeer(guard, to, to_context, from, from_context, bytes, nullptr, Wait::kYes);
}

SIM_API cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                          size_t bytes, CUstream stream) {
  SIM_ENTER(cuMemcpyPeerAsync, kContext);
  return sim::RunPeer(guard, to, to_context, from, from_context, bytes, stream, Wait::kNo);
}

SIM_API cuMemcpy2D_v2(const CUDA_MEMCPY2D* copy) {
  SIM_ENTER(cuMemcpy2D, kContext);
  return sim::Run2D(guard, copy, nullptr, Wait::kYes);
}

SIM_API cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* copy) {
  SIM_ENTER(cuMemcpy2DUnaligned, kContext);
  return sim::Run2D(guard, copy, nullptr, Wait::kYes);
}

SIM_API cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* copy, CUstream stream) {
  SIM_ENTER(cuMemcpy2DAsync, kContext);
  return sim::Run2D(guard, copy, stream, Wait::kNo);
}

SIM_API cuMemcpy3D_v2(const CUDA_MEMCPY3D* copy) {
  SIM_ENTER(cuMemcpy3D, kContext);
  return sim::Run3D(guard, copy, nullptr, Wait::kYes);
}

SIM_API cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D* copy, CUstream stream) {
  SIM_ENTER(cuMemcpy3DAsync, kContext);
  return sim::Run3D(guard, copy, stream, Wait::kNo);
}
