// What the program is told of memory: sizes with the host tier in them, and
// pointers into ranges answered as the device memory that was asked for.
#include "runtime/allocate.h"
#include "shim/hooks.h"
#include "shim/real.h"

namespace gpuroom {
namespace {

template <typename T>
CUresult Answer(void* data, T value) {
  *static_cast<T*>(data) = value;
  return CUDA_SUCCESS;
}

// The attribute of an address inside a range, as for cuMemAlloc's memory. The
// driver answers the rest, which concern the chunk alone.
CUresult RangeAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr address,
                        const RangeInfo& range, bool imported) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT: return Answer(data, range.context);
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: return Answer(data, static_cast<unsigned>(CU_MEMORYTYPE_DEVICE));
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: return Answer(data, address);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER: return CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED: return Answer(data, 0u);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: return Answer(data, static_cast<int>(range.device));
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE: return Answer(data, imported ? 0u : 1u);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: return Answer(data, range.va);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE: return Answer(data, static_cast<size_t>(range.requested));
    case CU_POINTER_ATTRIBUTE_MAPPED: return Answer(data, 1u);
    // One allocation has one identity; a chunk's would differ half-way through.
    case CU_POINTER_ATTRIBUTE_BUFFER_ID: return Real().cuPointerGetAttribute(data, attribute, range.va);
    default: return Real().cuPointerGetAttribute(data, attribute, address);
  }
}

// Where the program mapped memory that it takes for a device chunk and that is not one, only
// what gives the host, or several chunks, away is answered here. Of memory that is asleep the driver knows
// nothing: it is answered as a range is, of no context, as the driver says of mapped memory.
CUresult AwayMappingAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr address,
                              const HandleTable::MappingInfo& mapping) {
  if (mapping.asleep) {
    RangeInfo range;
    range.va = mapping.va;
    range.requested = mapping.bytes;
    range.device = mapping.device;
    return RangeAttribute(data, attribute, address, range, true);
  }
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: return Answer(data, static_cast<unsigned>(CU_MEMORYTYPE_DEVICE));
    case CU_POINTER_ATTRIBUTE_HOST_POINTER: return CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: return Answer(data, static_cast<int>(mapping.device));
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: return Answer(data, mapping.va);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE: return Answer(data, static_cast<size_t>(mapping.bytes));
    case CU_POINTER_ATTRIBUTE_BUFFER_ID: return Real().cuPointerGetAttribute(data, attribute, mapping.va);
    default: return Real().cuPointerGetAttribute(data, attribute, address);
  }
}

// Every attribute of `address` by `one`; what cannot be answered keeps the default
// that the driver has put there.
template <typename One>
CUresult Overwrite(unsigned count, CUpointer_attribute* attributes, void** data, One one) {
  for (unsigned i = 0; i < count; ++i) {
    if (attributes[i] == CU_POINTER_ATTRIBUTE_HOST_POINTER) {
      Answer(data[i], static_cast<void*>(nullptr));
    } else {
      (void)one(data[i], attributes[i]);
    }
  }
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace gpuroom

namespace gpuroom::hooks {

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  const CUresult result = Real().cuMemGetInfo_v2(free, total);
  Entry rt;
  DeviceState* device = rt && result == CUDA_SUCCESS ? rt->CurrentDevice() : nullptr;
  if (device == nullptr) return result;
  ReclaimRetired(*rt);
  if (free != nullptr) *free = rt->ToldFree(*device, *free);  // either may be null (docs/driver-notes.md)
  if (total != nullptr) *total = device->VisibleTotal(*total);
  return result;
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice ordinal) {
  const CUresult result = Real().cuDeviceTotalMem_v2(bytes, ordinal);
  Entry rt;
  DeviceState* device = rt && result == CUDA_SUCCESS ? rt->Device(ordinal) : nullptr;
  if (device != nullptr) *bytes = device->VisibleTotal(*bytes);
  return result;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
  Entry rt;
  RangeInfo range;
  bool imported = false;
  HandleTable::MappingInfo mapping;
  if (rt && rt->FindRange(address, &range, &imported)) {
    mapping.va = range.va;
    mapping.bytes = range.requested;
  } else if (!rt || !rt->handles.FindAwayMapping(address, &mapping)) {
    return Real().cuMemGetAddressRange_v2(base, bytes, address);
  }
  if (base != nullptr) *base = mapping.va;
  if (bytes != nullptr) *bytes = mapping.bytes;
  return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr address) {
  Entry rt;
  RangeInfo range;
  bool imported = false;
  HandleTable::MappingInfo mapping;
  if (!rt || data == nullptr) return Real().cuPointerGetAttribute(data, attribute, address);
  if (rt->FindRange(address, &range, &imported))
    return RangeAttribute(data, attribute, address, range, imported);
  if (rt->handles.FindAwayMapping(address, &mapping)) {
    return AwayMappingAttribute(data, attribute, address, mapping);
  }
  return Real().cuPointerGetAttribute(data, attribute, address);
}

CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute* attributes, void** data,
                                CUdeviceptr address) {
  const CUresult result = Real().cuPointerGetAttributes(count, attributes, data, address);
  Entry rt;
  RangeInfo range;
  bool imported = false;
  HandleTable::MappingInfo mapping;
  if (!rt || result != CUDA_SUCCESS) return result;
  if (rt->FindRange(address, &range, &imported)) {
    return Overwrite(count, attributes, data, [&](void* out, CUpointer_attribute attribute) {
      return RangeAttribute(out, attribute, address, range, imported);
    });
  }
  if (rt->handles.FindAwayMapping(address, &mapping)) {
    return Overwrite(count, attributes, data, [&](void* out, CUpointer_attribute attribute) {
      return AwayMappingAttribute(out, attribute, address, mapping);
    });
  }
  return result;
}

}  // namespace gpuroom::hooks
