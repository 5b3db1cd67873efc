// cuMemcpy in its kinds. Each is one operation on a stream: a synchronous call
// uses the default stream and waits; an asynchronous one from pageable memory
// takes the bytes at once, one to pageable memory waits.
#include <cstring>

#include "array.h"
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

// One side of a 2D or 3D copy, and where in it the copy begins.
struct Side {
  CUmemorytype type;
  const void* host;
  CUdeviceptr device;
  CUarray array;
  size_t pitch;
  size_t rows;
  size_t x, y, z;
};
struct Extent {
  size_t width, height, depth;
};

// Nothing beyond an array's ends is copied.
bool ArrayBox(const Side& side, const Extent& extent, Box* box) {
  const CUarray_st* array = FindArray(side.array);
  if (array == nullptr) return false;
  *box = WholeArray(*array);
  return side.x + extent.width <= box->width && side.y + extent.height <= box->height &&
         side.z + extent.depth <= box->depth;
}

bool MemoryBox(const Side& side, const Extent& extent, Box* box) {
  const bool on_host = side.type == CU_MEMORYTYPE_HOST;
  if (!on_host && side.type != CU_MEMORYTYPE_DEVICE && side.type != CU_MEMORYTYPE_UNIFIED) return false;
  box->start = on_host ? Address(side.host) : side.device;
  box->pitch = side.pitch != 0 ? side.pitch : extent.width;
  box->slice = side.pitch * side.rows != 0 ? side.pitch * side.rows : box->pitch * extent.height;
  return box->start != 0;
}

bool MakeBox(const Side& side, const Extent& extent, Box* box) {
  const bool valid =
      side.type == CU_MEMORYTYPE_ARRAY ? ArrayBox(side, extent, box) : MemoryBox(side, extent, box);
  if (!valid) return false;
  box->width = extent.width;
  box->height = extent.height;
  box->depth = extent.depth;
  box->start += side.x + side.y * box->pitch + side.z * box->slice;
  box->pageable = !IsKnown(box->start);
  return true;
}

CUresult RunSides(Guard& guard, const Side& to, const Side& from, const Extent& extent, CUstream stream,
                  Wait wait) {
  Transfer transfer;
  if (!MakeBox(to, extent, &transfer.to) || !MakeBox(from, extent, &transfer.from))
    return CUDA_ERROR_INVALID_VALUE;
  return Run(guard, transfer, stream, wait);
}

bool TooNarrow(CUmemorytype type, size_t pitch, size_t width) {
  return type != CU_MEMORYTYPE_ARRAY && pitch != 0 && pitch < width;
}

CUresult Run2D(Guard& guard, const CUDA_MEMCPY2D* copy, CUstream stream, Wait wait) {
  if (copy == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Extent extent{copy->WidthInBytes, copy->Height, 1};
  if (extent.width == 0 || extent.height == 0) return CUDA_SUCCESS;
  if (TooNarrow(copy->dstMemoryType, copy->dstPitch, extent.width) ||
      TooNarrow(copy->srcMemoryType, copy->srcPitch, extent.width)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const Side to{copy->dstMemoryType, copy->dstHost,  copy->dstDevice,
                copy->dstArray,      copy->dstPitch, copy->Height,
                copy->dstXInBytes,   copy->dstY,     0};
  const Side from{copy->srcMemoryType, copy->srcHost,  copy->srcDevice,
                  copy->srcArray,      copy->srcPitch, copy->Height,
                  copy->srcXInBytes,   copy->srcY,     0};
  return RunSides(guard, to, from, extent, stream, wait);
}

CUresult Run3D(Guard& guard, const CUDA_MEMCPY3D* copy, CUstream stream, Wait wait) {
  if (copy == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const Extent extent{copy->WidthInBytes, copy->Height, copy->Depth};
  if (extent.width == 0 || extent.height == 0 || extent.depth == 0) return CUDA_SUCCESS;
  const Side to{copy->dstMemoryType, copy->dstHost,     copy->dstDevice, copy->dstArray, copy->dstPitch,
                copy->dstHeight,     copy->dstXInBytes, copy->dstY,      copy->dstZ};
  const Side from{copy->srcMemoryType, copy->srcHost,     copy->srcDevice, copy->srcArray, copy->srcPitch,
                  copy->srcHeight,     copy->srcXInBytes, copy->srcY,      copy->srcZ};
  return RunSides(guard, to, from, extent, stream, wait);
}

// Bytes of an array's first row, from `offset` on.
Side Row(CUarray array, size_t offset) {
  return {CU_MEMORYTYPE_ARRAY, nullptr, 0, array, 0, 0, offset, 0, 0};
}
Side Plain(CUmemorytype type, const void* host, CUdeviceptr device) {
  return {type, host, device, nullptr, 0, 0, 0, 0, 0};
}

CUresult RunRow(Guard& guard, const Side& to, const Side& from, size_t bytes, CUstream stream, Wait wait) {
  if (bytes == 0) return CUDA_SUCCESS;
  return RunSides(guard, to, from, {bytes, 1, 1}, stream, wait);
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

SIM_API cuMemcpyHtoA_v2(CUarray to, size_t offset, const void* from, size_t bytes) {
  SIM_ENTER(cuMemcpyHtoA, kContext);
  return sim::RunRow(guard, sim::Row(to, offset), sim::Plain(CU_MEMORYTYPE_HOST, from, 0), bytes, nullptr,
                     Wait::kYes);
}

SIM_API cuMemcpyHtoAAsync_v2(CUarray to, size_t offset, const void* from, size_t bytes, CUstream stream) {
  SIM_ENTER(cuMemcpyHtoAAsync, kContext);
  return sim::RunRow(guard, sim::Row(to, offset), sim::Plain(CU_MEMORYTYPE_HOST, from, 0), bytes, stream,
                     Wait::kNo);
}

SIM_API cuMemcpyAtoH_v2(void* to, CUarray from, size_t offset, size_t bytes) {
  SIM_ENTER(cuMemcpyAtoH, kContext);
  return sim::RunRow(guard, sim::Plain(CU_MEMORYTYPE_HOST, to, 0), sim::Row(from, offset), bytes, nullptr,
                     Wait::kYes);
}

SIM_API cuMemcpyAtoHAsync_v2(void* to, CUarray from, size_t offset, size_t bytes, CUstream stream) {
  SIM_ENTER(cuMemcpyAtoHAsync, kContext);
  return sim::RunRow(guard, sim::Plain(CU_MEMORYTYPE_HOST, to, 0), sim::Row(from, offset), bytes, stream,
                     Wait::kNo);
}

SIM_API cuMemcpyDtoA_v2(CUarray to, size_t offset, CUdeviceptr from, size_t bytes) {
  SIM_ENTER(cuMemcpyDtoA, kContext);
  return sim::RunRow(guard, sim::Row(to, offset), sim::Plain(CU_MEMORYTYPE_DEVICE, nullptr, from), bytes,
                     nullptr, Wait::kNo);
}

SIM_API cuMemcpyAtoD_v2(CUdeviceptr to, CUarray from, size_t offset, size_t bytes) {
  SIM_ENTER(cuMemcpyAtoD, kContext);
  return sim::RunRow(guard, sim::Plain(CU_MEMORYTYPE_DEVICE, nullptr, to), sim::Row(from, offset), bytes,
                     nullptr, Wait::kNo);
}

SIM_API cuMemcpyAtoA_v2(CUarray to, size_t to_offset, CUarray from, size_t from_offset, size_t bytes) {
  SIM_ENTER(cuMemcpyAtoA, kContext);
  return sim::RunRow(guard, sim::Row(to, to_offset), sim::Row(from, from_offset), bytes, nullptr, Wait::kNo);
}
