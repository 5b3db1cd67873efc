// Stream-ordered, pool, managed and registered memory, and which free accepts which memory.
#include <cstdlib>

#include "probe.h"

namespace gpuroom::conformance {
namespace {

using Body = std::function<std::string(Session&, Scope&)>;

void Add(ProbeList& list, const char* name, Body body, Isolation isolation = Isolation::kShared) {
  list.push_back({name,
                  [body](Session& s) {
                    Scope scope(s);
                    return body(s, scope);
                  },
                  isolation});
}

// The free's answer, and whether the memory is still usable.
std::string FreeAsyncThenUse(Session& s, Scope& scope, CUdeviceptr p) {
  const CUstream stream = scope.Stream();
  const CUresult result = s.cu().MemFreeAsync(p, stream);
  const CUresult synchronized = s.cu().StreamSynchronize(stream);
  return Name(result) + ", synchronize " + Name(synchronized) + ", memset after it " +
         Name(s.cu().MemsetD8(p, 0, 4096));
}

void AddFrees(ProbeList& list) {
  const auto freed = [&](const char* name, std::function<CUdeviceptr(Scope&)> make) {
    Add(
        list, name, [make](Session& s, Scope& scope) { return FreeAsyncThenUse(s, scope, make(scope)); },
        Isolation::kIsolated);
  };
  freed("async.FreeAsync_of_cuMemAlloc", [](Scope& scope) { return scope.Alloc(4 * kMiB); });
  freed("async.FreeAsync_of_small_cuMemAlloc", [](Scope& scope) { return scope.Alloc(4096); });
  freed("async.FreeAsync_of_vmm", [](Scope& scope) { return scope.Range({Place::kDevice}); });
  freed("async.FreeAsync_of_vmm_node", [](Scope& scope) { return scope.Range({Place::kNode}); });
  freed("async.FreeAsync_of_managed", [](Scope& scope) { return scope.Managed(4 * kMiB); });
  freed("async.FreeAsync_of_async_middle",
        [](Scope& scope) { return scope.AllocAsync(4 * kMiB, nullptr) + kMiB; });
  Add(list, "async.FreeAsync_null", [](Session& s, Scope&) { return Name(s.cu().MemFreeAsync(0, nullptr)); });
  Add(
      list, "async.FreeAsync_twice",
      [](Session& s, Scope& scope) {
        const CUstream stream = scope.Stream();
        const CUdeviceptr p = scope.AllocAsync(4 * kMiB, stream);
        const CUresult first = scope.FreeAsync(p, stream);
        return Name(first) + ", " + Name(s.cu().MemFreeAsync(p, stream));
      },
      Isolation::kIsolated);
  Add(
      list, "async.Free_after_FreeAsync",
      [](Session& s, Scope& scope) {
        const CUstream stream = scope.Stream();
        const CUdeviceptr p = scope.AllocAsync(4 * kMiB, stream);
        const CUresult first = scope.FreeAsync(p, stream);
        return Name(first) + ", " + Name(s.cu().MemFree(p));
      },
      Isolation::kIsolated);
  Add(list, "async.Free_of_async",
      [](Session&, Scope& scope) { return Name(scope.Free(scope.AllocAsync(4 * kMiB, scope.Stream()))); });
  Add(list, "async.FreeAsync_on_another_stream", [](Session&, Scope& scope) {
    return Name(scope.FreeAsync(scope.AllocAsync(4 * kMiB, scope.Stream()), scope.Stream()));
  });
}

void AddAllocs(ProbeList& list) {
  const auto alloc = [&](const char* name, size_t bytes, CUstream stream) {
    Add(list, name, [bytes, stream](Session& s, Scope& scope) {
      CUdeviceptr p = 0;
      const CUresult result = s.cu().MemAllocAsync(&p, bytes, stream);
      if (p != 0) scope.AtEnd([&s, p] { s.cu().MemFree(p); });
      return Name(result) + (p == 0 ? ", null" : ", an address");
    });
  };
  alloc("async.AllocAsync_zero", 0, nullptr);
  alloc("async.AllocAsync_huge", size_t{1} << 50, nullptr);
  alloc("async.AllocAsync_null_stream", 4096, nullptr);
  alloc("async.AllocAsync_legacy_handle", 4096, CU_STREAM_LEGACY);
  alloc("async.AllocAsync_per_thread_handle", 4096, CU_STREAM_PER_THREAD);
  Add(list, "async.AllocAsync_null_out",
      [](Session& s, Scope&) { return Name(s.cu().MemAllocAsync(nullptr, 4096, nullptr)); });
  Add(list, "async.reuse_in_stream_gives_the_same_address", [](Session&, Scope& scope) {
    const CUstream stream = scope.Stream();
    const CUdeviceptr first = scope.AllocAsync(4 * kMiB, stream);
    Need(scope.FreeAsync(first, stream), "cuMemFreeAsync");
    return std::string(scope.AllocAsync(4 * kMiB, stream) == first ? "yes" : "no");
  });
  Add(list, "async.free_memory_after_alloc_free_and_synchronize", [](Session& s, Scope& scope) {
    size_t before = 0;
    size_t allocated = 0;
    size_t after = 0;
    size_t total = 0;
    const CUstream stream = scope.Stream();
    Need(s.cu().CtxSynchronize(), "cuCtxSynchronize");
    Need(s.cu().MemGetInfo(&before, &total), "cuMemGetInfo");
    const CUdeviceptr p = scope.AllocAsync(256 * kMiB, stream);
    Need(s.cu().MemGetInfo(&allocated, &total), "cuMemGetInfo");
    Need(scope.FreeAsync(p, stream), "cuMemFreeAsync");
    Need(s.cu().StreamSynchronize(stream), "cuStreamSynchronize");
    Need(s.cu().MemGetInfo(&after, &total), "cuMemGetInfo");
    return std::to_string((before - allocated) / kMiB) + " MiB taken, " +
           std::to_string((after - allocated) / kMiB) + " MiB back";
  });
}

void AddPools(ProbeList& list) {
  for (const auto& [name, place] :
       {std::pair{"pool.device", Place::kDevice}, {"pool.node", Place::kNode}, {"pool.HOST", Place::kHost}}) {
    const Place where = place;
    Add(list, name, [where](Session& s, Scope& scope) {
      CUmemPoolProps props = {};
      props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
      props.location = s.Location(where);
      CUmemoryPool pool = nullptr;
      const CUresult created = s.cu().MemPoolCreate(&pool, &props);
      if (created != CUDA_SUCCESS) return "create " + Name(created);
      scope.AtEnd([&s, pool] { s.cu().MemPoolDestroy(pool); });
      CUdeviceptr p = 0;
      const CUresult result = s.cu().MemAllocFromPoolAsync(&p, kChunk, pool, nullptr);
      if (result != CUDA_SUCCESS) return "allocate " + Name(result);
      CUmemoryPool of_pointer = nullptr;
      unsigned type = 0;
      Need(s.cu().PointerGetAttribute(&of_pointer, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, p),
           "pool of pointer");
      Need(s.cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p), "memory type");
      Need(s.cu().MemFreeAsync(p, nullptr), "cuMemFreeAsync");
      Need(s.cu().StreamSynchronize(nullptr), "cuStreamSynchronize");
      return std::string(of_pointer == pool ? "that pool" : "another pool") + ", memory type " +
             std::to_string(type);
    });
  }
}

void AddManaged(ProbeList& list) {
  Add(list, "managed.zero", [](Session& s, Scope&) {
    CUdeviceptr p = 0;
    return Name(s.cu().MemAllocManaged(&p, 0, CU_MEM_ATTACH_GLOBAL));
  });
  Add(list, "managed.flags_0", [](Session& s, Scope&) {
    CUdeviceptr p = 0;
    const CUresult result = s.cu().MemAllocManaged(&p, 4096, 0);
    if (result == CUDA_SUCCESS) s.cu().MemFree(p);
    return Name(result);
  });
  Add(list, "managed.free_twice", [](Session&, Scope& scope) {
    const CUdeviceptr p = scope.Managed(4 * kMiB);
    Need(scope.Free(p), "cuMemFree");
    return Name(scope.Free(p));
  });
  Add(list, "managed.host_writes_device_reads", [](Session& s, Scope& scope) {
    const CUdeviceptr p = scope.Managed(4 * kMiB);
    auto* words = reinterpret_cast<uint64_t*>(p);
    for (size_t i = 0; i < 512; ++i) words[i] = 0x0101010101010101u;
    std::vector<unsigned char> copy(4096);
    Need(s.cu().MemcpyDtoH(copy.data(), p, copy.size()), "cuMemcpyDtoH");
    for (unsigned char byte : copy) {
      if (byte != 1) return std::string("wrong");
    }
    return std::string("right");
  });
  const auto prefetch = [&](const char* name, Place target, std::function<CUdeviceptr(Scope&)> make) {
    Add(list, name, [target, make](Session& s, Scope& scope) {
      const CUresult result = s.cu().MemPrefetchAsync(make(scope), kMiB, s.Location(target), 0, nullptr);
      return Name(result) + ", " + Name(s.cu().StreamSynchronize(nullptr));
    });
  };
  prefetch("managed.prefetch_to_device", Place::kDevice, [](Scope& c) { return c.Managed(4 * kMiB); });
  prefetch("managed.prefetch_to_HOST", Place::kHost, [](Scope& c) { return c.Managed(4 * kMiB); });
  prefetch("managed.prefetch_to_node", Place::kNode, [](Scope& c) { return c.Managed(4 * kMiB); });
  prefetch("managed.prefetch_of_cuMemAlloc", Place::kDevice, [](Scope& c) { return c.Alloc(4 * kMiB); });
  prefetch("managed.prefetch_of_vmm", Place::kDevice, [](Scope& c) { return c.Range({Place::kDevice}); });
  const auto advise = [&](const char* name, CUmem_advise advice, Place place,
                          std::function<CUdeviceptr(Scope&)> make) {
    Add(list, name, [advice, place, make](Session& s, Scope& scope) {
      return Name(s.cu().MemAdvise(make(scope), kMiB, advice, s.Location(place)));
    });
  };
  advise("managed.advise_preferred_HOST", CU_MEM_ADVISE_SET_PREFERRED_LOCATION, Place::kHost,
         [](Scope& c) { return c.Managed(4 * kMiB); });
  advise("managed.advise_accessed_by_device", CU_MEM_ADVISE_SET_ACCESSED_BY, Place::kDevice,
         [](Scope& c) { return c.Managed(4 * kMiB); });
  advise("managed.advise_read_mostly", CU_MEM_ADVISE_SET_READ_MOSTLY, Place::kDevice,
         [](Scope& c) { return c.Managed(4 * kMiB); });
  advise("managed.advise_of_cuMemAlloc", CU_MEM_ADVISE_SET_READ_MOSTLY, Place::kDevice,
         [](Scope& c) { return c.Alloc(4 * kMiB); });
  advise("managed.advise_of_vmm", CU_MEM_ADVISE_SET_READ_MOSTLY, Place::kDevice,
         [](Scope& c) { return c.Range({Place::kDevice}); });
}

void AddRegistered(ProbeList& list) {
  const auto pages = [](Scope& scope) {
    void* p = std::aligned_alloc(4096, kMiB);
    scope.AtEnd([p] { std::free(p); });
    return p;
  };
  Add(list, "registered.twice", [pages](Session& s, Scope& scope) {
    void* p = pages(scope);
    Need(s.cu().MemHostRegister(p, kMiB, 0), "cuMemHostRegister");
    scope.AtEnd([&s, p] { s.cu().MemHostUnregister(p); });
    return Name(s.cu().MemHostRegister(p, kMiB, 0));
  });
  Add(list, "registered.unregister_unknown",
      [pages](Session& s, Scope& scope) { return Name(s.cu().MemHostUnregister(pages(scope))); });
  Add(list, "registered.device_pointer_is_the_same", [pages](Session& s, Scope& scope) {
    void* p = pages(scope);
    Need(s.cu().MemHostRegister(p, kMiB, 0), "cuMemHostRegister");
    scope.AtEnd([&s, p] { s.cu().MemHostUnregister(p); });
    CUdeviceptr device = 0;
    Need(s.cu().MemHostGetDevicePointer(&device, p, 0), "cuMemHostGetDevicePointer");
    return std::string(device == reinterpret_cast<CUdeviceptr>(p) ? "yes" : "no");
  });
  Add(list, "registered.pinned_free_twice", [](Session& s, Scope&) {
    void* p = nullptr;
    Need(s.cu().MemHostAlloc(&p, kMiB, 0), "cuMemHostAlloc");
    Need(s.cu().MemFreeHost(p), "cuMemFreeHost");
    return Name(s.cu().MemFreeHost(p));
  });
  Add(list, "registered.pinned_zero", [](Session& s, Scope&) {
    void* p = nullptr;
    return Name(s.cu().MemHostAlloc(&p, 0, 0)) + (p == nullptr ? ", null" : ", an address");
  });
}

}  // namespace

void AddAsyncProbes(ProbeList& list) {
  AddFrees(list);
  AddAllocs(list);
  AddPools(list);
  AddManaged(list);
  AddRegistered(list);
}

}  // namespace gpuroom::conformance
