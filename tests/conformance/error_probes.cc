// What the driver answers to each misuse that matters to us.
#include "probe.h"

namespace gpuroom::conformance {
namespace {

using Call = std::function<CUresult(Session&, Scope&)>;

void Add(ProbeList& list, const char* name, Call call, Isolation isolation = Isolation::kShared) {
  list.push_back({std::string("errors.") + name,
                  [call](Session& s) {
                    Scope scope(s);
                    return Name(call(s, scope));
                  },
                  isolation});
}

CUresult SetAccess(Session& s, CUdeviceptr va, size_t bytes, CUmemLocation location,
                   CUmemAccess_flags flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
  const CUmemAccessDesc access = {location, flags};
  return s.cu().MemSetAccess(va, bytes, &access, 1);
}

// For creations that should fail: releases the handle should they not.
CUresult TryCreate(Session& s, const CUmemAllocationProp& prop, size_t bytes, unsigned long long flags = 0) {
  CUmemGenericAllocationHandle handle = 0;
  const CUresult result = s.cu().MemCreate(&handle, bytes, &prop, flags);
  if (result == CUDA_SUCCESS) s.cu().MemRelease(handle);
  return result;
}

CUresult TryReserve(Session& s, size_t bytes, size_t alignment, CUdeviceptr hint, unsigned long long flags) {
  CUdeviceptr va = 0;
  const CUresult result = s.cu().MemAddressReserve(&va, bytes, alignment, hint, flags);
  if (result == CUDA_SUCCESS) s.cu().MemAddressFree(va, bytes);
  return result;
}

void AddAlloc(ProbeList& list) {
  Add(list, "alloc_zero", [](Session& s, Scope&) {
    CUdeviceptr p = 0;
    return s.cu().MemAlloc(&p, 0);
  });
  Add(list, "alloc_null_out", [](Session& s, Scope&) { return s.cu().MemAlloc(nullptr, 4096); });
  Add(list, "alloc_huge", [](Session& s, Scope&) {
    CUdeviceptr p = 0;
    return s.cu().MemAlloc(&p, size_t{1} << 50);
  });
  Add(list, "alloc_max_size", [](Session& s, Scope&) {
    CUdeviceptr p = 0;
    return s.cu().MemAlloc(&p, ~size_t{0});
  });
  list.push_back({"errors.alloc_failure_out_value", [](Session& s) {
                    CUdeviceptr p = 0x1234;
                    s.cu().MemAlloc(&p, size_t{1} << 50);
                    return std::string(p == 0 ? "zeroed" : p == 0x1234 ? "untouched" : "written");
                  }});
  Add(list, "free_null", [](Session& s, Scope&) { return s.cu().MemFree(0); });
  Add(list, "double_free", [](Session&, Scope& scope) {
    const CUdeviceptr p = scope.Alloc(4 * kMiB);
    Need(scope.Free(p), "cuMemFree");
    return scope.Free(p);
  });
  Add(list, "free_bad_pointer", [](Session& s, Scope&) { return s.cu().MemFree(0x1000); });
  Add(list, "free_host_pointer", [](Session& s, Scope&) {
    int local = 0;
    return s.cu().MemFree(reinterpret_cast<CUdeviceptr>(&local));
  });
  Add(list, "free_middle", [](Session&, Scope& scope) { return scope.Free(scope.Alloc(4 * kMiB) + 4096); });
  Add(list, "free_vmm_address",
      [](Session&, Scope& scope) { return scope.Free(scope.Range({Place::kDevice})); });
  Add(list, "free_vmm_host_chunk",
      [](Session&, Scope& scope) { return scope.Free(scope.Range({Place::kNode})); });
  Add(list, "free_reserved_address",
      [](Session&, Scope& scope) { return scope.Free(scope.Reserve(kChunk)); });
  Add(list, "free_pinned_host",
      [](Session&, Scope& scope) { return scope.Free(reinterpret_cast<CUdeviceptr>(scope.Pinned(4096))); });
  Add(list, "pitch_zero_width", [](Session& s, Scope&) {
    CUdeviceptr p = 0;
    size_t pitch = 0;
    return s.cu().MemAllocPitch(&p, &pitch, 0, 4, 4);
  });
  Add(list, "pitch_bad_element_size", [](Session& s, Scope&) {
    CUdeviceptr p = 0;
    size_t pitch = 0;
    const CUresult result = s.cu().MemAllocPitch(&p, &pitch, 100, 4, 3);
    if (result == CUDA_SUCCESS) s.cu().MemFree(p);
    return result;
  });
  list.push_back({"errors.pitch_of_100_bytes", [](Session& s) {
                    CUdeviceptr p = 0;
                    size_t pitch = 0;
                    Need(s.cu().MemAllocPitch(&p, &pitch, 100, 4, 4), "cuMemAllocPitch");
                    s.cu().MemFree(p);
                    return std::to_string(pitch);
                  }});
}

void AddCreate(ProbeList& list) {
  for (const auto& [suffix, place] : {std::pair{"device", Place::kDevice}, {"node", Place::kNode}}) {
    const Place where = place;
    const auto sized = [&](const char* what, size_t bytes) {
      const std::string name = std::string("create_") + suffix + "_" + what;
      Add(list, name.c_str(),
          [where, bytes](Session& s, Scope&) { return TryCreate(s, s.Prop(where), bytes); });
    };
    sized("zero", 0);
    sized("one_byte", 1);
    sized("64KiB", 64 * kKiB);
    sized("3MiB", 3 * kMiB);
  }
  // Not asked of a host node: a driver that tried would take the machine down.
  Add(list, "create_device_beyond_memory",
      [](Session& s, Scope&) { return TryCreate(s, s.Prop(Place::kDevice), size_t{1} << 50); });
  Add(list, "create_device_8TiB",
      [](Session& s, Scope&) { return TryCreate(s, s.Prop(Place::kDevice), size_t{8} << 40); });
  Add(list, "create_null_out", [](Session& s, Scope&) {
    const CUmemAllocationProp prop = s.Prop(Place::kDevice);
    return s.cu().MemCreate(nullptr, kChunk, &prop, 0);
  });
  Add(list, "create_null_prop", [](Session& s, Scope&) {
    CUmemGenericAllocationHandle handle = 0;
    return s.cu().MemCreate(&handle, kChunk, nullptr, 0);
  });
  Add(list, "create_flags_1",
      [](Session& s, Scope&) { return TryCreate(s, s.Prop(Place::kDevice), kChunk, 1); });
  const auto changed = [&](const char* name, void (*change)(CUmemAllocationProp&)) {
    Add(list, name, [change](Session& s, Scope&) {
      CUmemAllocationProp prop = s.Prop(Place::kDevice);
      change(prop);
      return TryCreate(s, prop, kChunk);
    });
  };
  changed("create_type_invalid", [](CUmemAllocationProp& p) { p.type = CU_MEM_ALLOCATION_TYPE_INVALID; });
  changed("create_type_managed", [](CUmemAllocationProp& p) { p.type = CU_MEM_ALLOCATION_TYPE_MANAGED; });
  changed("create_location_invalid",
          [](CUmemAllocationProp& p) { p.location.type = CU_MEM_LOCATION_TYPE_INVALID; });
  changed("create_device_beyond_last", [](CUmemAllocationProp& p) { p.location.id = 99; });
  changed("create_device_negative", [](CUmemAllocationProp& p) { p.location.id = -1; });
  changed("create_HOST", [](CUmemAllocationProp& p) { p.location.type = CU_MEM_LOCATION_TYPE_HOST; });
  changed("create_HOST_id_99", [](CUmemAllocationProp& p) { p.location = {CU_MEM_LOCATION_TYPE_HOST, 99}; });
  changed("create_HOST_posix", [](CUmemAllocationProp& p) {
    p.location.type = CU_MEM_LOCATION_TYPE_HOST;
    p.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  });
  changed("create_HOST_NUMA_99", [](CUmemAllocationProp& p) {
    p.location = {CU_MEM_LOCATION_TYPE_HOST_NUMA, 99};
  });
  changed("create_HOST_NUMA_negative", [](CUmemAllocationProp& p) {
    p.location = {CU_MEM_LOCATION_TYPE_HOST_NUMA, -1};
  });
  changed("create_HOST_NUMA_CURRENT", [](CUmemAllocationProp& p) {
    p.location = {CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT, 0};
  });
  changed("create_posix",
          [](CUmemAllocationProp& p) { p.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR; });
  changed("create_rdma_flag", [](CUmemAllocationProp& p) { p.allocFlags.gpuDirectRDMACapable = 1; });
  Add(list, "create_node_posix", [](Session& s, Scope&) {
    CUmemAllocationProp prop = s.Prop(Place::kNode);
    prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    return TryCreate(s, prop, kChunk);
  });
  const auto node = [&](const char* name, void (*change)(CUmemAllocationProp&)) {
    Add(list, name, [change](Session& s, Scope&) {
      CUmemAllocationProp prop = s.Prop(Place::kNode);
      change(prop);
      return TryCreate(s, prop, kChunk);
    });
  };
  node("create_node_rdma", [](CUmemAllocationProp& p) { p.allocFlags.gpuDirectRDMACapable = 1; });
  node("create_node_posix_rdma", [](CUmemAllocationProp& p) {
    p.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    p.allocFlags.gpuDirectRDMACapable = 1;
  });
  node("create_node_fabric",
       [](CUmemAllocationProp& p) { p.requestedHandleTypes = CU_MEM_HANDLE_TYPE_FABRIC; });
  node("create_node_compressible",
       [](CUmemAllocationProp& p) { p.allocFlags.compressionType = CU_MEM_ALLOCATION_COMP_GENERIC; });
  changed("create_fabric",
          [](CUmemAllocationProp& p) { p.requestedHandleTypes = CU_MEM_HANDLE_TYPE_FABRIC; });
  changed("create_posix_and_fabric", [](CUmemAllocationProp& p) {
    p.requestedHandleTypes = static_cast<CUmemAllocationHandleType>(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR |
                                                                    CU_MEM_HANDLE_TYPE_FABRIC);
  });
  Add(list, "release_zero", [](Session& s, Scope&) { return s.cu().MemRelease(0); });
  Add(
      list, "release_bad_handle", [](Session& s, Scope&) { return s.cu().MemRelease(0x1234); },
      Isolation::kIsolated);
  Add(
      list, "release_twice",
      [](Session&, Scope& scope) {
        const auto handle = scope.Create(Place::kDevice);
        Need(scope.Release(handle), "cuMemRelease");
        return scope.Release(handle);
      },
      Isolation::kIsolated);
  Add(
      list, "release_twice_while_mapped",
      [](Session&, Scope& scope) {
        const CUdeviceptr va = scope.Reserve(kChunk);
        const auto handle = scope.Create(Place::kDevice);
        scope.Map(va, kChunk, handle);
        Need(scope.Release(handle), "cuMemRelease");
        return scope.Release(handle);
      },
      Isolation::kIsolated);
  Add(
      list, "properties_of_bad_handle",
      [](Session& s, Scope&) {
        CUmemAllocationProp prop = {};
        return s.cu().MemGetAllocationPropertiesFromHandle(&prop, 0x1234);
      },
      Isolation::kIsolated);
}

void AddReserve(ProbeList& list) {
  Add(list, "reserve_zero", [](Session& s, Scope&) { return TryReserve(s, 0, 0, 0, 0); });
  Add(list, "reserve_one_byte", [](Session& s, Scope&) { return TryReserve(s, 1, 0, 0, 0); });
  Add(list, "reserve_4KiB", [](Session& s, Scope&) { return TryReserve(s, 4096, 0, 0, 0); });
  Add(list, "reserve_64KiB", [](Session& s, Scope&) { return TryReserve(s, 64 * kKiB, 0, 0, 0); });
  Add(list, "reserve_3MiB", [](Session& s, Scope&) { return TryReserve(s, 3 * kMiB, 0, 0, 0); });
  Add(list, "reserve_null_out",
      [](Session& s, Scope&) { return s.cu().MemAddressReserve(nullptr, kChunk, 0, 0, 0); });
  Add(list, "reserve_alignment_3", [](Session& s, Scope&) { return TryReserve(s, kChunk, 3, 0, 0); });
  Add(list, "reserve_alignment_64MiB",
      [](Session& s, Scope&) { return TryReserve(s, kChunk, 64 * kMiB, 0, 0); });
  Add(list, "reserve_alignment_1GiB", [](Session& s, Scope&) { return TryReserve(s, kChunk, kGiB, 0, 0); });
  Add(list, "reserve_flags_1", [](Session& s, Scope&) { return TryReserve(s, kChunk, 0, 0, 1); });
  Add(list, "reserve_flags_2", [](Session& s, Scope&) { return TryReserve(s, kChunk, 0, 0, 2); });
  Add(list, "reserve_1TiB", [](Session& s, Scope&) { return TryReserve(s, size_t{1} << 40, 0, 0, 0); });
  Add(list, "address_free_twice", [](Session&, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    Need(scope.AddressFree(va, kChunk), "cuMemAddressFree");
    return scope.AddressFree(va, kChunk);
  });
  Add(list, "address_free_null", [](Session& s, Scope&) { return s.cu().MemAddressFree(0, kChunk); });
  Add(list, "address_free_part",
      [](Session&, Scope& scope) { return scope.AddressFree(scope.Reserve(2 * kChunk), kChunk); });
  Add(list, "address_free_zero_size",
      [](Session&, Scope& scope) { return scope.AddressFree(scope.Reserve(kChunk), 0); });
  Add(list, "address_free_middle",
      [](Session&, Scope& scope) { return scope.AddressFree(scope.Reserve(2 * kChunk) + kChunk, kChunk); });
  Add(
      list, "address_free_while_mapped",
      [](Session&, Scope& scope) { return scope.AddressFree(scope.Range({Place::kDevice}), kChunk); },
      Isolation::kIsolated);
}

void AddMap(ProbeList& list) {
  Add(list, "map_over_mapped", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Range({Place::kDevice});
    return s.cu().MemMap(va, kChunk, 0, scope.Create(Place::kDevice), 0);
  });
  Add(list, "map_offset_of_a_chunk", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    return s.cu().MemMap(va, kChunk, kChunk, scope.Create(Place::kDevice, 2 * kChunk), 0);
  });
  Add(list, "map_part_of_handle", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(2 * kChunk);
    const CUresult result = s.cu().MemMap(va, kChunk, 0, scope.Create(Place::kDevice, 2 * kChunk), 0);
    if (result == CUDA_SUCCESS) Need(s.cu().MemUnmap(va, kChunk), "cuMemUnmap");
    return result;
  });
  Add(list, "map_more_than_handle", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(2 * kChunk);
    return s.cu().MemMap(va, 2 * kChunk, 0, scope.Create(Place::kDevice), 0);
  });
  Add(list, "map_size_not_multiple", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    return s.cu().MemMap(va, kMiB, 0, scope.Create(Place::kDevice), 0);
  });
  Add(list, "map_address_not_aligned", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(2 * kChunk);
    return s.cu().MemMap(va + kMiB, kChunk, 0, scope.Create(Place::kDevice), 0);
  });
  Add(list, "map_zero_size", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    return s.cu().MemMap(va, 0, 0, scope.Create(Place::kDevice), 0);
  });
  Add(list, "map_flags_1", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    return s.cu().MemMap(va, kChunk, 0, scope.Create(Place::kDevice), 1);
  });
  Add(list, "map_unreserved_address", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    const auto handle = scope.Create(Place::kDevice);
    Need(scope.AddressFree(va, kChunk), "cuMemAddressFree");
    return s.cu().MemMap(va, kChunk, 0, handle, 0);
  });
  Add(list, "map_beyond_reservation", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    return s.cu().MemMap(va, 2 * kChunk, 0, scope.Create(Place::kDevice, 2 * kChunk), 0);
  });
  Add(list, "map_same_handle_twice", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(2 * kChunk);
    const auto handle = scope.Create(Place::kDevice);
    scope.Map(va, kChunk, handle);
    const CUresult result = s.cu().MemMap(va + kChunk, kChunk, 0, handle, 0);
    if (result == CUDA_SUCCESS) Need(s.cu().MemUnmap(va + kChunk, kChunk), "cuMemUnmap");
    return result;
  });
  Add(list, "map_over_cuMemAlloc", [](Session& s, Scope& scope) {
    return s.cu().MemMap(scope.Alloc(kChunk), kChunk, 0, scope.Create(Place::kDevice), 0);
  });
  Add(list, "unmap_twice", [](Session&, Scope& scope) {
    const CUdeviceptr va = scope.Range({Place::kDevice});
    Need(scope.Unmap(va, kChunk), "cuMemUnmap");
    return scope.Unmap(va, kChunk);
  });
  Add(list, "unmap_part_of_mapping", [](Session&, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(2 * kChunk);
    scope.Map(va, 2 * kChunk, scope.Create(Place::kDevice, 2 * kChunk));
    scope.Access(va, 2 * kChunk);
    return scope.Unmap(va, kChunk);
  });
  Add(list, "unmap_end_of_mapping", [](Session&, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(2 * kChunk);
    scope.Map(va, 2 * kChunk, scope.Create(Place::kDevice, 2 * kChunk));
    return scope.Unmap(va + kChunk, kChunk);
  });
  Add(list, "unmap_several_mappings", [](Session&, Scope& scope) {
    return scope.Unmap(scope.Range({Place::kDevice, Place::kNode}), 2 * kChunk);
  });
  Add(list, "unmap_mappings_and_a_hole", [](Session&, Scope& scope) {
    const CUdeviceptr va = scope.Range({Place::kDevice, Place::kNode, Place::kDevice});
    Need(scope.Unmap(va + kChunk, kChunk), "cuMemUnmap");
    return scope.Unmap(va, 3 * kChunk);
  });
  Add(list, "unmap_reserved_only",
      [](Session&, Scope& scope) { return scope.Unmap(scope.Reserve(kChunk), kChunk); });
  Add(list, "unmap_zero_size",
      [](Session&, Scope& scope) { return scope.Unmap(scope.Range({Place::kDevice}), 0); });
  Add(list, "unmap_cuMemAlloc",
      [](Session&, Scope& scope) { return scope.Unmap(scope.Alloc(kChunk), kChunk); });
}

void AddAccess(ProbeList& list) {
  Add(list, "access_unmapped", [](Session& s, Scope& scope) {
    return SetAccess(s, scope.Reserve(kChunk), kChunk, s.Location(Place::kDevice));
  });
  Add(list, "access_partly_mapped", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(2 * kChunk);
    scope.Map(va, kChunk, scope.Create(Place::kDevice));
    return SetAccess(s, va, 2 * kChunk, s.Location(Place::kDevice));
  });
  Add(list, "access_part_of_mapping", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(2 * kChunk);
    scope.Map(va, 2 * kChunk, scope.Create(Place::kDevice, 2 * kChunk));
    return SetAccess(s, va, kChunk, s.Location(Place::kDevice));
  });
  Add(list, "access_zero_size", [](Session& s, Scope& scope) {
    return SetAccess(s, scope.Range({Place::kDevice}), 0, s.Location(Place::kDevice));
  });
  Add(list, "access_zero_count", [](Session& s, Scope& scope) {
    const CUmemAccessDesc access = {s.Location(Place::kDevice), CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    return s.cu().MemSetAccess(scope.Range({Place::kDevice}), kChunk, &access, 0);
  });
  Add(list, "access_null_descriptor", [](Session& s, Scope& scope) {
    return s.cu().MemSetAccess(scope.Range({Place::kDevice}), kChunk, nullptr, 1);
  });
  Add(list, "access_unknown_flags", [](Session& s, Scope& scope) {
    return SetAccess(s, scope.Range({Place::kDevice}), kChunk, s.Location(Place::kDevice),
                     static_cast<CUmemAccess_flags>(8));
  });
  Add(list, "access_device_99", [](Session& s, Scope& scope) {
    return SetAccess(s, scope.Range({Place::kDevice}), kChunk, {CU_MEM_LOCATION_TYPE_DEVICE, 99});
  });
  Add(list, "access_none_again", [](Session& s, Scope& scope) {
    return SetAccess(s, scope.Range({Place::kDevice}), kChunk, s.Location(Place::kDevice),
                     CU_MEM_ACCESS_FLAGS_PROT_NONE);
  });
  Add(list, "access_read_only", [](Session& s, Scope& scope) {
    return SetAccess(s, scope.Range({Place::kDevice}), kChunk, s.Location(Place::kDevice),
                     CU_MEM_ACCESS_FLAGS_PROT_READ);
  });
  Add(list, "host_access_to_device_chunk", [](Session& s, Scope& scope) {
    return SetAccess(s, scope.Range({Place::kDevice}), kChunk, s.Location(Place::kHost));
  });
  Add(list, "host_access_to_host_chunk_as_HOST", [](Session& s, Scope& scope) {
    return SetAccess(s, scope.Range({Place::kNode}), kChunk, s.Location(Place::kHost));
  });
  Add(list, "host_access_to_host_chunk_as_node", [](Session& s, Scope& scope) {
    return SetAccess(s, scope.Range({Place::kNode}), kChunk, s.Location(Place::kNode));
  });
}

// Work on memory that is not there. A kernel's fault is sticky; so these are isolated.
void AddUse(ProbeList& list) {
  const auto add = [&](const char* name, Call call) {
    Add(list, name, std::move(call), Isolation::kIsolated);
  };
  add("memset_without_access", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    scope.Map(va, kChunk, scope.Create(Place::kDevice));
    return s.cu().MemsetD8(va, 1, 4096);
  });
  add("memset_after_unmap", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Range({Place::kDevice});
    Need(scope.Unmap(va, kChunk), "cuMemUnmap");
    return s.cu().MemsetD8(va, 1, 4096);
  });
  add("memset_after_free", [](Session& s, Scope& scope) {
    const CUdeviceptr p = scope.Alloc(4 * kMiB);
    Need(scope.Free(p), "cuMemFree");
    return s.cu().MemsetD8(p, 1, 4096);
  });
  add("memset_past_the_end",
      [](Session& s, Scope& scope) { return s.cu().MemsetD8(scope.Alloc(4 * kMiB), 1, 4 * kMiB + 1); });
  add("memset_past_the_end_of_range", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(4 * kChunk);
    scope.Map(va, kChunk, scope.Create(Place::kDevice));
    scope.Access(va, kChunk);
    return s.cu().MemsetD8(va, 1, kChunk + 1);
  });
  add("memset_zero_bytes", [](Session& s, Scope& scope) { return s.cu().MemsetD8(scope.Alloc(4096), 1, 0); });
  add("memset_null_zero_bytes", [](Session& s, Scope&) { return s.cu().MemsetD8(0, 1, 0); });
  add("memset_null", [](Session& s, Scope&) { return s.cu().MemsetD8(0, 1, 16); });
  add("memset_d32_misaligned",
      [](Session& s, Scope& scope) { return s.cu().MemsetD32(scope.Alloc(4096) + 2, 1, 4); });
  add("memset_host_pointer", [](Session& s, Scope&) {
    std::vector<char> bytes(4096);
    return s.cu().MemsetD8(reinterpret_cast<CUdeviceptr>(bytes.data()), 1, bytes.size());
  });
  add("copy_from_unmapped", [](Session& s, Scope& scope) {
    std::vector<char> bytes(4096);
    return s.cu().MemcpyDtoH(bytes.data(), scope.Reserve(kChunk), bytes.size());
  });
  add("copy_to_unmapped", [](Session& s, Scope& scope) {
    std::vector<char> bytes(4096);
    return s.cu().MemcpyHtoD(scope.Reserve(kChunk), bytes.data(), bytes.size());
  });
  add("copy_without_access", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    scope.Map(va, kChunk, scope.Create(Place::kDevice));
    std::vector<char> bytes(4096);
    return s.cu().MemcpyHtoD(va, bytes.data(), bytes.size());
  });
  add("copy_past_the_end", [](Session& s, Scope& scope) {
    std::vector<char> bytes(4 * kMiB + 4096);
    return s.cu().MemcpyHtoD(scope.Alloc(4 * kMiB), bytes.data(), bytes.size());
  });
  add("copy_null_zero_bytes", [](Session& s, Scope&) { return s.cu().MemcpyDtoD(0, 0, 0); });
  add("kernel_without_access", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    scope.Map(va, kChunk, scope.Create(Place::kDevice));
    s.Fill(va, 512, 1, nullptr);
    return s.cu().CtxSynchronize();
  });
  add("kernel_on_unmapped", [](Session& s, Scope& scope) {
    s.Fill(scope.Reserve(kChunk), 512, 1, nullptr);
    return s.cu().CtxSynchronize();
  });
  add("kernel_write_to_read_only", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Range({Place::kDevice});
    Need(SetAccess(s, va, kChunk, s.Location(Place::kDevice), CU_MEM_ACCESS_FLAGS_PROT_READ), "read only");
    s.Fill(va, 512, 1, nullptr);
    return s.cu().CtxSynchronize();
  });
  add("alloc_after_kernel_fault", [](Session& s, Scope& scope) {
    s.Fill(scope.Reserve(kChunk), 512, 1, nullptr);
    s.cu().CtxSynchronize();
    CUdeviceptr p = 0;
    return s.cu().MemAlloc(&p, 4096);
  });
}

}  // namespace

void AddErrorProbes(ProbeList& list) {
  AddAlloc(list);
  AddCreate(list);
  AddReserve(list);
  AddMap(list);
  AddAccess(list);
  AddUse(list);
}

}  // namespace gpuroom::conformance
