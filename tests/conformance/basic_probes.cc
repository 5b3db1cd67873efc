// Initialisation, versions, contexts, devices and what a fresh process may call.
#include "probe.h"

namespace gpuroom::conformance {
namespace {

std::string YesNo(bool yes) { return yes ? "yes" : "no"; }

void AddBeforeInit(ProbeList& list) {
  const auto add = [&](const char* name, ProbeBody body) {
    list.push_back({name, std::move(body), Isolation::kBare});
  };
  add("init.before_DeviceGetCount", [](Session& s) {
    int count = 0;
    return Name(s.cu().DeviceGetCount(&count));
  });
  add("init.before_MemAlloc", [](Session& s) {
    CUdeviceptr p = 0;
    return Name(s.cu().MemAlloc(&p, 4096));
  });
  add("init.before_MemCreate", [](Session& s) {
    CUmemGenericAllocationHandle handle = 0;
    const CUmemAllocationProp prop = s.Prop(Place::kDevice);
    return Name(s.cu().MemCreate(&handle, kChunk, &prop, 0));
  });
  add("init.before_MemGetInfo", [](Session& s) {
    size_t free_bytes = 0;
    size_t total = 0;
    return Name(s.cu().MemGetInfo(&free_bytes, &total));
  });
  add("init.before_PointerGetAttribute", [](Session& s) {
    int type = 0;
    return Name(s.cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 4096));
  });
  add("init.before_CtxGetCurrent", [](Session& s) {
    CUcontext context = nullptr;
    return Name(s.cu().CtxGetCurrent(&context));
  });
  add("init.before_DriverGetVersion", [](Session& s) {
    int version = 0;
    return Name(s.cu().DriverGetVersion(&version));
  });
  add("init.flags", [](Session& s) { return Name(s.cu().Init(1)); });
  add("init.twice", [](Session& s) { return Name(s.cu().Init(0)) + ", " + Name(s.cu().Init(0)); });
}

// After cuInit, without a context.
void AddWithoutContext(ProbeList& list) {
  const auto add = [&](const char* name, std::function<CUresult(Session&)> call) {
    list.push_back({name,
                    [call](Session& s) {
                      Need(s.cu().Init(0), "cuInit");
                      return Name(call(s));
                    },
                    Isolation::kBare});
  };
  add("no_context.CtxGetCurrent", [](Session& s) {
    CUcontext context = nullptr;
    return s.cu().CtxGetCurrent(&context);
  });
  add("no_context.CtxGetDevice", [](Session& s) {
    CUdevice device = 0;
    return s.cu().CtxGetDevice(&device);
  });
  add("no_context.CtxSynchronize", [](Session& s) { return s.cu().CtxSynchronize(); });
  add("no_context.MemGetInfo", [](Session& s) {
    size_t free_bytes = 0;
    size_t total = 0;
    return s.cu().MemGetInfo(&free_bytes, &total);
  });
  add("no_context.MemAlloc", [](Session& s) {
    CUdeviceptr p = 0;
    return s.cu().MemAlloc(&p, 4096);
  });
  add("no_context.MemFree_null", [](Session& s) { return s.cu().MemFree(0); });
  add("no_context.MemCreate", [](Session& s) {
    CUmemGenericAllocationHandle handle = 0;
    const CUmemAllocationProp prop = s.Prop(Place::kDevice);
    return s.cu().MemCreate(&handle, kChunk, &prop, 0);
  });
  add("no_context.MemAddressReserve", [](Session& s) {
    CUdeviceptr va = 0;
    return s.cu().MemAddressReserve(&va, kChunk, 0, 0, 0);
  });
  add("no_context.MemMap_and_SetAccess", [](Session& s) {
    Scope scope(s);
    const CUdeviceptr va = scope.Reserve(kChunk);
    scope.Map(va, kChunk, scope.Create(Place::kDevice));
    CUmemAccessDesc access = {s.Location(Place::kDevice), CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    return s.cu().MemSetAccess(va, kChunk, &access, 1);
  });
  add("no_context.MemGetAllocationGranularity", [](Session& s) {
    size_t granularity = 0;
    const CUmemAllocationProp prop = s.Prop(Place::kDevice);
    return s.cu().MemGetAllocationGranularity(&granularity, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
  });
  add("no_context.PointerGetAttribute", [](Session& s) {
    int type = 0;
    return s.cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 4096);
  });
  add("no_context.StreamIsCapturing_null", [](Session& s) {
    CUstreamCaptureStatus status;
    return s.cu().StreamIsCapturing(nullptr, &status);
  });
  add("no_context.MemAllocManaged", [](Session& s) {
    CUdeviceptr p = 0;
    return s.cu().MemAllocManaged(&p, 4096, CU_MEM_ATTACH_GLOBAL);
  });
}

void AddDevices(ProbeList& list) {
  const auto add = [&](const char* name, ProbeBody body) { list.push_back({name, std::move(body)}); };
  add("device.version_at_least_13_0", [](Session& s) { return YesNo(s.cu().version >= 13000); });
  add("device.get_negative", [](Session& s) {
    CUdevice device = 0;
    return Name(s.cu().DeviceGet(&device, -1));
  });
  add("device.get_beyond_last", [](Session& s) {
    CUdevice device = 0;
    return Name(s.cu().DeviceGet(&device, s.device_count()));
  });
  add("device.attribute_unknown", [](Session& s) {
    int value = 0;
    return Name(s.cu().DeviceGetAttribute(&value, static_cast<CUdevice_attribute>(9999), 0));
  });
  add("device.total_equals_MemGetInfo_total", [](Session& s) {
    size_t total = 0;
    size_t info_free = 0;
    size_t info_total = 0;
    Need(s.cu().DeviceTotalMem(&total, 0), "cuDeviceTotalMem");
    Need(s.cu().MemGetInfo(&info_free, &info_total), "cuMemGetInfo");
    return YesNo(total == info_total) + ", free below total: " + YesNo(info_free < info_total);
  });
  const auto attribute = [&](const char* name, CUdevice_attribute which) {
    add(name, [which](Session& s) {
      int value = -1;
      const CUresult result = s.cu().DeviceGetAttribute(&value, which, 0);
      return result == CUDA_SUCCESS ? std::to_string(value) : Name(result);
    });
  };
  attribute("device.virtual_memory_management", CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
  attribute("device.host_numa_virtual_memory_management",
            CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
  attribute("device.unified_addressing", CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING);
  attribute("device.posix_descriptors", CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
  attribute("device.fabric_handles", CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED);
  attribute("device.rdma_with_vmm", CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED);
  attribute("device.memory_pools", CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED);
  attribute("device.concurrent_managed", CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS);
  add("device.error_name_unknown", [](Session& s) {
    const char* text = "untouched";
    const CUresult result = s.cu().GetErrorName(static_cast<CUresult>(123456), &text);
    return Name(result) + ", text " + (text == nullptr ? "null" : text);
  });
  add("device.context_of_primary_is_current", [](Session& s) {
    CUcontext context = nullptr;
    CUdevice device = -1;
    Need(s.cu().CtxGetCurrent(&context), "cuCtxGetCurrent");
    Need(s.cu().CtxGetDevice(&device), "cuCtxGetDevice");
    return YesNo(context == s.context()) + ", device " + std::to_string(device);
  });
  add("device.pop_empty_context_stack", [](Session& s) {
    CUcontext first = nullptr;
    CUcontext second = nullptr;
    const CUresult popped = s.cu().CtxPopCurrent(&first);
    const CUresult again = s.cu().CtxPopCurrent(&second);
    Need(s.cu().CtxSetCurrent(s.context()), "cuCtxSetCurrent");
    return Name(popped) + ", " + Name(again);
  });
}

}  // namespace

void AddBasicProbes(ProbeList& list) {
  AddBeforeInit(list);
  AddWithoutContext(list);
  AddDevices(list);
}

}  // namespace gpuroom::conformance
