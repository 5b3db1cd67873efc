// Virtual memory management: granularity, placement, handles, remapping,
// sharing by descriptor, and what each call does to the free memory.
#include <unistd.h>

#include "contents.h"
#include "probe.h"

namespace gpuroom::conformance {
namespace {

using Body = std::function<std::string(Session&, Scope&)>;

void Add(ProbeList& list, const std::string& name, Body body, Isolation isolation = Isolation::kShared) {
  list.push_back({name,
                  [body](Session& s) {
                    Scope scope(s);
                    return body(s, scope);
                  },
                  isolation});
}

std::string LocationName(const CUmemLocation& location) {
  switch (location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE: return "DEVICE " + std::to_string(location.id);
    case CU_MEM_LOCATION_TYPE_HOST: return "HOST";
    case CU_MEM_LOCATION_TYPE_HOST_NUMA: return "HOST_NUMA";
    default: return "location type " + std::to_string(static_cast<int>(location.type));
  }
}

std::string Describe(Session& s, CUmemGenericAllocationHandle handle) {
  CUmemAllocationProp prop = {};
  const CUresult result = s.cu().MemGetAllocationPropertiesFromHandle(&prop, handle);
  if (result != CUDA_SUCCESS) return Name(result);
  std::string text = LocationName(prop.location);
  if (prop.location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA) {
    text += prop.location.id == s.host_node() ? " as asked" : " " + std::to_string(prop.location.id);
  }
  return text + ", type " + std::to_string(static_cast<int>(prop.type)) + ", handle types " +
         std::to_string(static_cast<int>(prop.requestedHandleTypes));
}

void AddGranularity(ProbeList& list) {
  for (const auto& [name, place] :
       {std::pair{"device", Place::kDevice}, {"node", Place::kNode}, {"HOST", Place::kHost}}) {
    const Place where = place;
    for (const auto& [option_name, option] : {std::pair{"minimum", CU_MEM_ALLOC_GRANULARITY_MINIMUM},
                                              {"recommended", CU_MEM_ALLOC_GRANULARITY_RECOMMENDED}}) {
      const auto flag = option;
      Add(list, std::string("granularity.") + name + "_" + option_name, [where, flag](Session& s, Scope&) {
        size_t granularity = 0;
        const CUmemAllocationProp prop = s.Prop(where);
        const CUresult result = s.cu().MemGetAllocationGranularity(&granularity, &prop, flag);
        return result == CUDA_SUCCESS ? std::to_string(granularity) : Name(result);
      });
    }
    Add(list, std::string("placement.") + name,
        [where](Session& s, Scope& scope) { return Describe(s, scope.Create(where)); });
  }
  for (const auto& [name, place] :
       {std::pair{"device_posix", Place::kDevice}, {"node_posix", Place::kNode}}) {
    const Place where = place;
    Add(list, std::string("placement.") + name, [where](Session& s, Scope& scope) {
      CUmemAllocationProp prop = s.Prop(where);
      prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
      prop.allocFlags.gpuDirectRDMACapable = where == Place::kDevice ? 1 : 0;
      CUmemGenericAllocationHandle handle = 0;
      Need(s.cu().MemCreate(&handle, kChunk, &prop, 0), "cuMemCreate");
      scope.AtEnd([&s, handle] { s.cu().MemRelease(handle); });
      CUmemAllocationProp seen = {};
      Need(s.cu().MemGetAllocationPropertiesFromHandle(&seen, handle), "properties");
      return Describe(s, handle) + ", rdma " + std::to_string(seen.allocFlags.gpuDirectRDMACapable);
    });
  }
  Add(list, "granularity.null_out", [](Session& s, Scope&) {
    const CUmemAllocationProp prop = s.Prop(Place::kDevice);
    return Name(s.cu().MemGetAllocationGranularity(nullptr, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
  });
  Add(list, "granularity.HOST_NUMA_CURRENT", [](Session& s, Scope&) {
    size_t granularity = 0;
    CUmemAllocationProp prop = s.Prop(Place::kNode);
    prop.location = {CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT, 0};
    const CUresult result =
        s.cu().MemGetAllocationGranularity(&granularity, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
    return result == CUDA_SUCCESS ? std::to_string(granularity) : Name(result);
  });
  Add(list, "placement.access_read_back", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Range({Place::kDevice});
    const CUmemLocation device = s.Location(Place::kDevice);
    const CUmemLocation host = s.Location(Place::kHost);
    unsigned long long of_device = 99;
    unsigned long long of_host = 99;
    const CUresult first = s.cu().MemGetAccess(&of_device, &device, va);
    const CUresult second = s.cu().MemGetAccess(&of_host, &host, va);
    return "device " + Name(first) + " " + std::to_string(of_device) + ", host " + Name(second) + " " +
           std::to_string(of_host);
  });
  Add(list, "placement.access_before_setAccess", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    scope.Map(va, kChunk, scope.Create(Place::kDevice));
    const CUmemLocation device = s.Location(Place::kDevice);
    unsigned long long flags = 99;
    const CUresult result = s.cu().MemGetAccess(&flags, &device, va);
    return Name(result) + " " + std::to_string(flags);
  });
}

void AddLifetimes(ProbeList& list) {
  Add(list, "handle.release_before_unmap_keeps_memory", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    const auto handle = scope.Create(Place::kDevice);
    scope.Map(va, kChunk, handle);
    scope.Access(va, kChunk);
    FillAndWait(s, va, kWordsPerChunk, 1);
    const CUresult released = scope.Release(handle);
    return Name(released) + ", " + CheckByKernel(s, va, kWordsPerChunk, 1);
  });
  Add(list, "handle.retain_after_release", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    const auto handle = scope.Create(Place::kDevice);
    scope.Map(va, kChunk, handle);
    Need(scope.Release(handle), "cuMemRelease");
    CUmemGenericAllocationHandle retained = 0;
    const CUresult result = s.cu().MemRetainAllocationHandle(&retained, reinterpret_cast<void*>(va));
    if (result == CUDA_SUCCESS) scope.AtEnd([&s, retained] { s.cu().MemRelease(retained); });
    return Name(result) + ", the same handle: " + (retained == handle ? "yes" : "no");
  });
  Add(list, "handle.retain_in_the_middle_then_release", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    const auto handle = scope.Create(Place::kDevice);
    scope.Map(va, kChunk, handle);
    CUmemGenericAllocationHandle retained = 0;
    const CUresult result = s.cu().MemRetainAllocationHandle(&retained, reinterpret_cast<void*>(va + 4096));
    std::string text = Name(result) + ", the same handle: " + (retained == handle ? "yes" : "no");
    if (result == CUDA_SUCCESS) text += ", release " + Name(s.cu().MemRelease(retained));
    return text + ", still described: " + Describe(s, handle);
  });
  Add(
      list, "handle.retained_and_released_by_count",
      [](Session& s, Scope& scope) {
        const CUdeviceptr va = scope.Reserve(kChunk);
        const auto handle = scope.Create(Place::kDevice);
        scope.Map(va, kChunk, handle);
        CUmemGenericAllocationHandle retained = 0;
        Need(s.cu().MemRetainAllocationHandle(&retained, reinterpret_cast<void*>(va)), "retain");
        const CUresult first = scope.Release(handle);
        const std::string described = Describe(s, retained);
        const CUresult second = s.cu().MemRelease(retained);
        return Name(first) + ", " + described + ", " + Name(second) + ", " +
               Name(s.cu().MemRelease(retained));
      },
      Isolation::kIsolated);
  // The map of one range taken down in one call, whatever the tiers.
  Add(list, "unmap.three_tiers_in_one_call", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Range({Place::kDevice, Place::kNode, Place::kDevice});
    const CUresult result = s.cu().MemUnmap(va, 3 * kChunk);
    std::string text = Name(result);
    for (size_t i = 0; i < 3; ++i) {
      int type = 0;
      text +=
          ", " + Name(s.cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, va + i * kChunk));
    }
    return text;
  });
  Add(list, "unmap.one_mapping_and_half_of_the_next", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(3 * kChunk);
    scope.Map(va, kChunk, scope.Create(Place::kDevice));
    scope.Map(va + kChunk, 2 * kChunk, scope.Create(Place::kDevice, 2 * kChunk));
    scope.Access(va, 3 * kChunk);
    const CUresult result = s.cu().MemUnmap(va, 2 * kChunk);
    int type = 0;
    const auto at = [&](CUdeviceptr p) {
      return Name(s.cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p));
    };
    return Name(result) + ", first " + at(va) + ", second " + at(va + kChunk);
  });
  const auto retain = [&](const char* name, std::function<CUdeviceptr(Session&, Scope&)> make) {
    Add(list, std::string("handle.retain_of_") + name, [make](Session& s, Scope& scope) {
      CUmemGenericAllocationHandle retained = 0;
      const CUdeviceptr p = make(s, scope);
      const CUresult result = s.cu().MemRetainAllocationHandle(&retained, reinterpret_cast<void*>(p));
      if (result == CUDA_SUCCESS) s.cu().MemRelease(retained);
      return Name(result);
    });
  };
  retain("cuMemAlloc", [](Session&, Scope& scope) { return scope.Alloc(kChunk); });
  retain("reserved_address", [](Session&, Scope& scope) { return scope.Reserve(kChunk); });
  retain("unknown_address", [](Session&, Scope&) { return CUdeviceptr{0x10000}; });
  Add(list, "remap.keeps_contents", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(2 * kChunk);
    const auto handle = scope.Create(Place::kDevice);
    scope.Map(va, kChunk, handle);
    scope.Access(va, kChunk);
    FillAndWait(s, va, kWordsPerChunk, 3);
    Need(scope.Unmap(va, kChunk), "cuMemUnmap");
    scope.Map(va + kChunk, kChunk, handle);
    scope.Access(va + kChunk, kChunk);
    return CheckByKernel(s, va + kChunk, kWordsPerChunk, 3);
  });
  Add(list, "remap.same_address_other_tier", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Range({Place::kDevice});
    Need(scope.Unmap(va, kChunk), "cuMemUnmap");
    scope.Map(va, kChunk, scope.Create(Place::kNode));
    scope.Access(va, kChunk);
    FillAndWait(s, va, kWordsPerChunk, 4);
    return CheckByKernel(s, va, kWordsPerChunk, 4);
  });
  Add(
      list, "remap.needs_access_again",
      [](Session& s, Scope& scope) {
        const CUdeviceptr va = scope.Reserve(kChunk);
        const auto handle = scope.Create(Place::kDevice);
        scope.Map(va, kChunk, handle);
        scope.Access(va, kChunk);
        Need(scope.Unmap(va, kChunk), "cuMemUnmap");
        scope.Map(va, kChunk, handle);
        return Name(s.cu().MemsetD8(va, 1, 4096));
      },
      Isolation::kIsolated);
  Add(list, "remap.two_addresses_of_one_handle", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(2 * kChunk);
    const auto handle = scope.Create(Place::kDevice);
    scope.Map(va, kChunk, handle);
    scope.Map(va + kChunk, kChunk, handle);
    scope.Access(va, 2 * kChunk);
    FillAndWait(s, va, kWordsPerChunk, 5);
    return CheckByKernel(s, va + kChunk, kWordsPerChunk, 5);
  });
  Add(list, "remap.host_reads_through_second_mapping", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(2 * kChunk);
    const auto handle = scope.Create(Place::kNode);
    scope.Map(va, kChunk, handle);
    scope.Access(va, kChunk);
    scope.Map(va + kChunk, kChunk, handle);
    scope.Access(va + kChunk, kChunk, Place::kHost);
    FillAndWait(s, va, kWordsPerChunk, 6);
    return CheckHere(reinterpret_cast<const uint64_t*>(va + kChunk), kWordsPerChunk, 6);
  });
  Add(list, "reserve.hint_of_a_freed_range_is_taken", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    Need(scope.AddressFree(va, kChunk), "cuMemAddressFree");
    CUdeviceptr again = 0;
    Need(s.cu().MemAddressReserve(&again, kChunk, 0, va, 0), "cuMemAddressReserve");
    Need(s.cu().MemAddressFree(again, kChunk), "cuMemAddressFree");
    return std::string(again == va ? "yes" : "no");
  });
  Add(list, "reserve.hint_of_a_used_range", [](Session& s, Scope& scope) {
    const CUdeviceptr va = scope.Reserve(kChunk);
    CUdeviceptr again = 0;
    const CUresult result = s.cu().MemAddressReserve(&again, kChunk, 0, va, 0);
    if (result == CUDA_SUCCESS) Need(s.cu().MemAddressFree(again, kChunk), "cuMemAddressFree");
    return Name(result) + (result == CUDA_SUCCESS && again != va ? ", elsewhere" : "");
  });
}

void AddSharing(ProbeList& list) {
  const auto shared = [](Session& s, Scope& scope, Place place) {
    CUmemAllocationProp prop = s.Prop(place);
    prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    CUmemGenericAllocationHandle handle = 0;
    Need(s.cu().MemCreate(&handle, kChunk, &prop, 0), "cuMemCreate");
    scope.AtEnd([&s, handle] { s.cu().MemRelease(handle); });
    return handle;
  };
  for (const auto& [name, place] : {std::pair{"device", Place::kDevice}, {"node", Place::kNode}}) {
    const Place where = place;
    Add(list, std::string("share.export_import_") + name, [where, shared](Session& s, Scope& scope) {
      const auto handle = shared(s, scope, where);
      int fd = -1;
      const CUresult exported =
          s.cu().MemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
      if (exported != CUDA_SUCCESS) return "export " + Name(exported);
      CUmemGenericAllocationHandle imported = 0;
      const CUresult result =
          s.cu().MemImportFromShareableHandle(&imported, reinterpret_cast<void*>(static_cast<intptr_t>(fd)),
                                              CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
      close(fd);
      if (result != CUDA_SUCCESS) return "import " + Name(result);
      scope.AtEnd([&s, imported] { s.cu().MemRelease(imported); });
      const CUdeviceptr va = scope.Reserve(2 * kChunk);
      scope.Map(va, kChunk, handle);
      scope.Map(va + kChunk, kChunk, imported);
      scope.Access(va, 2 * kChunk);
      FillAndWait(s, va, kWordsPerChunk, 8);
      return CheckByKernel(s, va + kChunk, kWordsPerChunk, 8) + "; " + Describe(s, imported);
    });
    Add(list, std::string("share.export_not_requested_") + name, [where](Session& s, Scope& scope) {
      int fd = -1;
      const CUresult result = s.cu().MemExportToShareableHandle(&fd, scope.Create(where),
                                                                CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
      if (result == CUDA_SUCCESS) close(fd);
      return Name(result);
    });
  }
  Add(list, "share.import_bad_descriptor", [](Session& s, Scope&) {
    CUmemGenericAllocationHandle imported = 0;
    return Name(s.cu().MemImportFromShareableHandle(&imported, reinterpret_cast<void*>(intptr_t{-1}),
                                                    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
  });
  Add(list, "share.import_foreign_descriptor", [](Session& s, Scope&) {
    int ends[2];
    if (pipe(ends) != 0) return std::string("not reached: pipe");
    CUmemGenericAllocationHandle imported = 0;
    const CUresult result = s.cu().MemImportFromShareableHandle(
        &imported, reinterpret_cast<void*>(static_cast<intptr_t>(ends[0])),
        CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    close(ends[0]);
    close(ends[1]);
    return Name(result);
  });
}

int64_t FreeBytes(Session& s) {
  size_t free_bytes = 0;
  size_t total = 0;
  Need(s.cu().MemGetInfo(&free_bytes, &total), "cuMemGetInfo");
  return static_cast<int64_t>(free_bytes);
}

std::string MiB(int64_t bytes) {
  const auto unit = static_cast<int64_t>(kMiB);
  return bytes % unit == 0 ? std::to_string(bytes / unit) + " MiB" : std::to_string(bytes) + " bytes";
}

// How free memory changes at each step; 64 MiB, so that no suballocation hides it.
void AddMemoryInfo(ProbeList& list) {
  constexpr size_t kBytes = 64 * kMiB;
  Add(list, "info.alloc_and_free", [](Session& s, Scope& scope) {
    const int64_t before = FreeBytes(s);
    const CUdeviceptr p = scope.Alloc(kBytes);
    const int64_t after_alloc = FreeBytes(s);
    Need(scope.Free(p), "cuMemFree");
    return MiB(after_alloc - before) + ", then " + MiB(FreeBytes(s) - after_alloc);
  });
  Add(list, "info.alloc_one_byte_over_64MiB", [](Session& s, Scope& scope) {
    const int64_t before = FreeBytes(s);
    scope.Alloc(kBytes + 1);
    return MiB(FreeBytes(s) - before);
  });
  for (const auto& [name, place] : {std::pair{"device", Place::kDevice}, {"node", Place::kNode}}) {
    const Place where = place;
    Add(list, std::string("info.chunk_on_") + name, [where](Session& s, Scope& scope) {
      const int64_t start = FreeBytes(s);
      const auto handle = scope.Create(where, kBytes);
      const int64_t created = FreeBytes(s);
      const CUdeviceptr va = scope.Reserve(kBytes);
      scope.Map(va, kBytes, handle);
      scope.Access(va, kBytes);
      const int64_t mapped = FreeBytes(s);
      Need(scope.Release(handle), "cuMemRelease");
      const int64_t released = FreeBytes(s);
      Need(scope.Unmap(va, kBytes), "cuMemUnmap");
      const int64_t unmapped = FreeBytes(s);
      return "create " + MiB(created - start) + ", map " + MiB(mapped - created) + ", release while mapped " +
             MiB(released - mapped) + ", unmap " + MiB(unmapped - released);
    });
  }
  Add(list, "info.null_arguments", [](Session& s, Scope&) {
    size_t bytes = 0;
    return Name(s.cu().MemGetInfo(nullptr, &bytes)) + ", " + Name(s.cu().MemGetInfo(&bytes, nullptr));
  });
}

}  // namespace

void AddVmmProbes(ProbeList& list) {
  AddGranularity(list);
  AddLifetimes(list);
  AddSharing(list);
  AddMemoryInfo(list);
}

}  // namespace gpuroom::conformance
