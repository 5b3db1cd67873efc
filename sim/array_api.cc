#include <algorithm>

#include "alloc.h"
#include "array.h"
#include "context.h"
#include "entry.h"
#include "report.h"
#include "stream.h"

namespace gpuroom::sim {
namespace {

// Bytes of one channel; 0: a format that is not simulated.
uint64_t ChannelBytes(CUarray_format format) {
  switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8: return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF: return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT: return 4;
    default: return 0;
  }
}

bool IsValid(const CUDA_ARRAY3D_DESCRIPTOR& description) {
  const unsigned channels = description.NumChannels;
  const unsigned known =
      CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST | CUDA_ARRAY3D_CUBEMAP | CUDA_ARRAY3D_TEXTURE_GATHER;
  if (channels != 1 && channels != 2 && channels != 4) return false;
  if ((description.Flags & ~known) != 0 || description.Width == 0) return false;
  const bool layered = (description.Flags & CUDA_ARRAY3D_LAYERED) != 0;
  const bool cube = (description.Flags & CUDA_ARRAY3D_CUBEMAP) != 0;
  if (description.Height == 0 && description.Depth != 0 && !layered) return false;
  if (layered && description.Depth == 0) return false;
  return !cube ||
         (description.Width == description.Height && description.Depth % 6 == 0 && description.Depth != 0);
}

CUresult Create(Guard& guard, const CUDA_ARRAY3D_DESCRIPTOR& description, CUarray* out) {
  const uint64_t channel = ChannelBytes(description.Format);
  if (channel == 0 || !IsValid(description)) return CUDA_ERROR_INVALID_VALUE;
  CUarray_st array;
  array.description = description;
  array.context = &guard.context();
  array.row = description.Width * channel * description.NumChannels;
  array.rows = std::max<uint64_t>(1, description.Height);
  array.slices = std::max<uint64_t>(1, description.Depth);
  const uint64_t bytes = array.row * array.rows * array.slices;
  const CUresult result = AllocateDevice(OrdinaryRequest(array.context, bytes), &array.start);
  if (result != CUDA_SUCCESS) return result;
  *out = new CUarray_st(array);
  guard.state().arrays.insert(*out);
  return CUDA_SUCCESS;
}

}  // namespace

const CUarray_st* FindArray(CUarray array) { return GetState().arrays.contains(array) ? array : nullptr; }

Box WholeArray(const CUarray_st& array) {
  return {array.start, array.row, array.rows, array.row, array.slices, array.row * array.rows, false, -1};
}

void FreeContextArrays(CUcontext context) {
  std::erase_if(GetState().arrays, [context](const CUarray array) {
    const bool gone = array->context == context;
    if (gone) delete array;
    return gone;
  });
}

}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;

SIM_API cuArrayCreate_v2(CUarray* out, const CUDA_ARRAY_DESCRIPTOR* description) {
  SIM_ENTER(cuArrayCreate, kUnsafe);
  if (out == nullptr || description == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return sim::Create(
      guard, {description->Width, description->Height, 0, description->Format, description->NumChannels, 0},
      out);
}

SIM_API cuArray3DCreate_v2(CUarray* out, const CUDA_ARRAY3D_DESCRIPTOR* description) {
  SIM_ENTER(cuArray3DCreate, kUnsafe);
  if (out == nullptr || description == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return sim::Create(guard, *description, out);
}

SIM_API cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR* out, CUarray handle) {
  SIM_ENTER(cuArrayGetDescriptor, kContext);
  const CUarray_st* array = sim::FindArray(handle);
  if (array == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const CUDA_ARRAY3D_DESCRIPTOR& description = array->description;
  *out = {description.Width, description.Height, description.Format, description.NumChannels};
  return CUDA_SUCCESS;
}

SIM_API cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR* out, CUarray handle) {
  SIM_ENTER(cuArray3DGetDescriptor, kContext);
  const CUarray_st* array = sim::FindArray(handle);
  if (array == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *out = array->description;
  return CUDA_SUCCESS;
}

// Waits for its context's work, as cuMemFree does.
SIM_API cuArrayDestroy(CUarray handle) {
  SIM_ENTER(cuArrayDestroy, kUnsafe);
  if (handle == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (sim::FindArray(handle) == nullptr) sim::CrashAsDriver("cuArrayDestroy of an array that is not there");
  const CUresult result = sim::DrainContext(guard.lock(), handle->context);
  if (result != CUDA_SUCCESS) return result;
  if (guard.state().arrays.erase(handle) == 0)
    return CUDA_ERROR_INVALID_HANDLE;  // the lock was open meanwhile
  sim::FreeDevice(guard.state().va.Find(handle->start));
  delete handle;
  return CUDA_SUCCESS;
}
