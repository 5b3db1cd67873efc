// Two GPUs: legacy peer access, cuMemAlloc memory of the other GPU, what pointer
// attributes and free memory say of device 1's memory, and sharing its chunks.
#include <unistd.h>

#include "contents.h"
#include "peer.h"

namespace gpuroom::conformance {
namespace {

using peer::Add;
using peer::AddFaulting;
using peer::Case;
using peer::kNode;
using peer::kOwn;
using peer::kPeer;
using peer::kWords;

void AddLegacyAccess(ProbeList& list) {
  AddFaulting(list, "legacy.kernel_of_0_on_alloc_of_1_not_enabled",
              [](Case& c) { return Name(c.Fill(c.AllocOnSecond(kChunk), kWords, 1)); });
  AddFaulting(list, "legacy.kernel_of_0_on_alloc_of_1_enabled", [](Case& c) {
    const CUdeviceptr p = c.AllocOnSecond(kChunk);
    const CUresult enabled = c.cu().CtxEnablePeerAccess(c.second.context(), 0);
    const CUresult result = c.Fill(p, kWords, 2);
    return Name(enabled) + ", " + Name(result) + ", " + c.Out(p, kWords, 2);
  });
  AddFaulting(list, "legacy.kernel_of_0_on_alloc_of_1_made_after_enabling", [](Case& c) {
    const CUresult enabled = c.cu().CtxEnablePeerAccess(c.second.context(), 0);
    const CUdeviceptr p = c.AllocOnSecond(kChunk);
    return Name(enabled) + ", " + Name(c.Fill(p, kWords, 3));
  });
  AddFaulting(list, "legacy.kernel_of_1_on_alloc_of_0_enabled_the_other_way", [](Case& c) {
    const CUdeviceptr p = c.scope.Alloc(kChunk);
    const CUresult enabled = c.cu().CtxEnablePeerAccess(c.second.context(), 0);
    return Name(enabled) + ", " + Name(c.second.Fill(p, kWords, 4));
  });
  AddFaulting(list, "legacy.kernel_of_0_on_chunk_of_1_access_1_enabled", [](Case& c) {
    const CUdeviceptr va = c.With({kPeer}, {kPeer});
    const CUresult enabled = c.cu().CtxEnablePeerAccess(c.second.context(), 0);
    return Name(enabled) + ", " + Name(c.Fill(va, kWords, 5));
  });
  AddFaulting(list, "legacy.kernel_of_0_on_chunk_of_1_mapped_after_enabling", [](Case& c) {
    const CUresult enabled = c.cu().CtxEnablePeerAccess(c.second.context(), 0);
    return Name(enabled) + ", " + Name(c.Fill(c.With({kPeer}, {kPeer}), kWords, 6));
  });
  AddFaulting(list, "legacy.kernel_of_1_on_node_chunk_access_0_enabled", [](Case& c) {
    const CUdeviceptr va = c.With({kNode}, {kOwn});
    const CUresult enabled = c.second.Do([&] { return c.cu().CtxEnablePeerAccess(c.s.context(), 0); });
    return Name(enabled) + ", " + Name(c.second.Fill(va, kWords, 7));
  });
  AddFaulting(list, "legacy.enable_twice", [](Case& c) {
    const CUresult first = c.cu().CtxEnablePeerAccess(c.second.context(), 0);
    return Name(first) + ", " + Name(c.cu().CtxEnablePeerAccess(c.second.context(), 0));
  });
  AddFaulting(list, "legacy.enable_itself",
              [](Case& c) { return Name(c.cu().CtxEnablePeerAccess(c.s.context(), 0)); });
  AddFaulting(list, "legacy.disable_not_enabled",
              [](Case& c) { return Name(c.cu().CtxDisablePeerAccess(c.second.context())); });
  AddFaulting(list, "legacy.disable_enabled", [](Case& c) {
    Need(c.cu().CtxEnablePeerAccess(c.second.context(), 0), "cuCtxEnablePeerAccess");
    return Name(c.cu().CtxDisablePeerAccess(c.second.context()));
  });
}

// Calls of one context over cuMemAlloc memory of the other, peer access not enabled.
void AddLegacyWork(ProbeList& list) {
  AddFaulting(list, "legacy.memset_by_0_of_alloc_of_1", [](Case& c) {
    const CUdeviceptr p = c.AllocOnSecond(kChunk);
    const CUresult result = c.cu().MemsetD8(p, 0x11, kChunk);
    return Name(result) + ", " + CheckBytes(c.s, p, kChunk, 0x11);
  });
  AddFaulting(list, "legacy.copy_alloc_of_1_to_alloc_of_0", [](Case& c) {
    const CUdeviceptr p = c.AllocOnSecond(kChunk);
    const CUdeviceptr q = c.scope.Alloc(kChunk);
    Need(c.second.Fill(p, kWords, 10), "filling");
    const CUresult result = c.cu().MemcpyDtoD(q, p, kChunk);
    return Name(result) + ", " + c.Out(q, kWords, 10);
  });
  AddFaulting(list, "legacy.copy_peer_of_alloc", [](Case& c) {
    const CUdeviceptr p = c.AllocOnSecond(kChunk);
    const CUdeviceptr q = c.scope.Alloc(kChunk);
    Need(c.second.Fill(p, kWords, 11), "filling");
    const CUresult result = c.cu().MemcpyPeer(q, c.s.context(), p, c.second.context(), kChunk);
    return Name(result) + ", " + c.Out(q, kWords, 11);
  });
  // What a program does whose memory gpuroom spilled: cuMemcpyPeer of ranges.
  const auto copy_peer = [&](const char* name, std::vector<Place> places, std::vector<Place> whom) {
    AddFaulting(list, name, [places, whom](Case& c) {
      const uint64_t words = places.size() * kWords;
      const CUdeviceptr from = c.With(places, whom);
      Need(c.second.Fill(from, words, 12), "filling");
      const CUdeviceptr to = c.scope.Alloc(places.size() * kChunk);
      const CUresult result =
          c.cu().MemcpyPeer(to, c.s.context(), from, c.second.context(), places.size() * kChunk);
      return Name(result) + ", " + c.Out(to, words, 12);
    });
  };
  copy_peer("copy_peer_of_chunk_of_1_access_1", {kPeer}, {kPeer});
  copy_peer("copy_peer_of_node_chunk_access_1", {kNode}, {kPeer});
  copy_peer("copy_peer_of_node_chunk_access_both", {kNode}, {kOwn, kPeer});
  copy_peer("copy_peer_of_two_chunks_of_1_access_1", {kPeer, kPeer}, {kPeer});
  copy_peer("copy_peer_of_mixed_range_access_1", {kPeer, kNode, kPeer}, {kPeer});
  copy_peer("copy_peer_of_mixed_range_access_both", {kPeer, kNode, kPeer}, {kOwn, kPeer});
  AddFaulting(list, "copy_peer_of_mixed_range_access_both_enabled", [](Case& c) {
    Need(c.cu().CtxEnablePeerAccess(c.second.context(), 0), "cuCtxEnablePeerAccess");
    const CUdeviceptr from = c.With({kPeer, kNode, kPeer}, {kOwn, kPeer});
    Need(c.second.Fill(from, 3 * kWords, 15), "filling");
    const CUdeviceptr to = c.scope.Alloc(3 * kChunk);
    const CUresult result = c.cu().MemcpyPeer(to, c.s.context(), from, c.second.context(), 3 * kChunk);
    return Name(result) + ", " + c.Out(to, 3 * kWords, 15);
  });
  AddFaulting(list, "copy_peer_async_of_mixed_range_access_both", [](Case& c) {
    const CUdeviceptr from = c.With({kPeer, kNode, kPeer}, {kOwn, kPeer});
    Need(c.second.Fill(from, 3 * kWords, 16), "filling");
    const CUdeviceptr to = c.scope.Alloc(3 * kChunk);
    const CUresult result =
        c.cu().MemcpyPeerAsync(to, c.s.context(), from, c.second.context(), 3 * kChunk, nullptr);
    Need(c.cu().CtxSynchronize(), "cuCtxSynchronize");
    return Name(result) + ", " + c.Out(to, 3 * kWords, 16);
  });
  AddFaulting(list, "copy_peer_within_device_0_of_mixed_range", [](Case& c) {
    const CUdeviceptr from = c.With({kOwn, kNode, kOwn}, {kOwn});
    Need(c.Fill(from, 3 * kWords, 17), "filling");
    const CUdeviceptr to = c.scope.Alloc(3 * kChunk);
    const CUresult result = c.cu().MemcpyPeer(to, c.s.context(), from, c.s.context(), 3 * kChunk);
    return Name(result) + ", " + c.Out(to, 3 * kWords, 17);
  });
  AddFaulting(list, "copy_device_of_mixed_range_access_both_by_0_to_alloc_of_1", [](Case& c) {
    const CUdeviceptr from = c.With({kOwn, kNode, kOwn}, {kOwn, kPeer});
    Need(c.Fill(from, 3 * kWords, 18), "filling");
    const CUdeviceptr to = c.AllocOnSecond(3 * kChunk);
    const CUresult result = c.cu().MemcpyDtoD(to, from, 3 * kChunk);
    return Name(result) + ", " + c.second.Do([&] { return c.Out(to, 3 * kWords, 18); });
  });
  AddFaulting(list, "copy_device_of_mixed_range_access_0_by_0_to_alloc_of_1", [](Case& c) {
    const CUdeviceptr from = c.With({kOwn, kNode, kOwn}, {kOwn});
    Need(c.Fill(from, 3 * kWords, 19), "filling");
    const CUdeviceptr to = c.AllocOnSecond(3 * kChunk);
    const CUresult result = c.cu().MemcpyDtoD(to, from, 3 * kChunk);
    return Name(result) + ", " + c.second.Do([&] { return c.Out(to, 3 * kWords, 19); });
  });
  AddFaulting(list, "copy_peer_to_mixed_range_access_1", [](Case& c) {
    const CUdeviceptr to = c.With({kPeer, kNode, kPeer}, {kPeer});
    const CUdeviceptr from = c.scope.Alloc(3 * kChunk);
    Need(c.Fill(from, 3 * kWords, 13), "filling");
    const CUresult result = c.cu().MemcpyPeer(to, c.second.context(), from, c.s.context(), 3 * kChunk);
    return Name(result) + ", " + c.second.Do([&] { return c.Out(to, 3 * kWords, 13); });
  });
  AddFaulting(list, "copy_device_of_mixed_range_access_1_by_0", [](Case& c) {
    const CUdeviceptr from = c.With({kPeer, kNode, kPeer}, {kPeer});
    Need(c.second.Fill(from, 3 * kWords, 14), "filling");
    const CUdeviceptr to = c.scope.Alloc(3 * kChunk);
    const CUresult result = c.cu().MemcpyDtoD(to, from, 3 * kChunk);
    return Name(result) + ", " + c.Out(to, 3 * kWords, 14);
  });
  Add(list, "free_of_alloc_of_1_by_0", [](Case& c) { return Name(c.scope.Free(c.AllocOnSecond(kChunk))); });
}

std::string Attributes(Case& c, CUdeviceptr p) {
  int type = 0;
  int ordinal = -7;
  CUcontext context = nullptr;
  const auto get = [&](void* value, CUpointer_attribute which) {
    return c.cu().PointerGetAttribute(value, which, p);
  };
  const CUresult result = get(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
  if (result != CUDA_SUCCESS) return Name(result);
  const CUresult of_ordinal = get(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
  const CUresult of_context = get(&context, CU_POINTER_ATTRIBUTE_CONTEXT);
  uint64_t flags = 99;
  const CUresult of_flags = get(&flags, CU_POINTER_ATTRIBUTE_ACCESS_FLAGS);
  CUdeviceptr pointer = 0;
  const CUresult of_pointer = get(&pointer, CU_POINTER_ATTRIBUTE_DEVICE_POINTER);
  return "type " + std::to_string(type) + ", ordinal " + Name(of_ordinal) + " " + std::to_string(ordinal) +
         ", context " + Name(of_context) + " " +
         (context == nullptr              ? "null"
          : context == c.s.context()      ? "of device 0"
          : context == c.second.context() ? "of device 1"
                                          : "another") +
         ", access " + Name(of_flags) + " " + std::to_string(flags) + ", device pointer " + Name(of_pointer) +
         (pointer == p ? " the pointer" : "");
}

void AddAttributes(ProbeList& list) {
  struct Kind {
    const char* name;
    CUdeviceptr (*make)(Case&);
  };
  static constexpr Kind kKinds[] = {
      {"alloc_of_1", [](Case& c) { return c.AllocOnSecond(kChunk); }},
      {"chunk_of_1_access_0", [](Case& c) { return c.With({kPeer}, {kOwn}); }},
      {"chunk_of_1_access_1", [](Case& c) { return c.With({kPeer}, {kPeer}); }},
      {"chunk_of_1_access_both",
       [](Case& c) {
         return c.With({kPeer}, {kOwn, kPeer});
       }},
      {"chunk_of_0_access_1", [](Case& c) { return c.With({kOwn}, {kPeer}); }},
      {"node_chunk_access_0", [](Case& c) { return c.With({kNode}, {kOwn}); }},
      {"node_chunk_access_1", [](Case& c) { return c.With({kNode}, {kPeer}); }},
      {"node_chunk_access_both",
       [](Case& c) {
         return c.With({kNode}, {kOwn, kPeer});
       }},
  };
  for (const Kind& kind : kKinds) {
    Add(list, std::string("attributes_in_context_of_0.") + kind.name,
        [make = kind.make](Case& c) { return Attributes(c, make(c)); });
    Add(list, std::string("attributes_in_context_of_1.") + kind.name, [make = kind.make](Case& c) {
      const CUdeviceptr p = make(c);
      return c.second.Do([&] { return Attributes(c, p); });
    });
  }
}

int64_t FreeMiB(Case& c) {
  size_t free_bytes = 0;
  size_t total = 0;
  Need(c.cu().MemGetInfo(&free_bytes, &total), "cuMemGetInfo");
  return static_cast<int64_t>(free_bytes / kMiB);
}

void AddInfoAndSharing(ProbeList& list) {
  Add(list, "info_of_64MiB_chunk_of_1_made_by_0", [](Case& c) {
    const int64_t here = FreeMiB(c);
    const int64_t there = c.second.Do([&] { return FreeMiB(c); });
    c.scope.Create(kPeer, 64 * kMiB);
    const int64_t here_taken = here - FreeMiB(c);
    const int64_t there_taken = there - c.second.Do([&] { return FreeMiB(c); });
    return "device 0 " + std::to_string(here_taken) + " MiB, device 1 " + std::to_string(there_taken) +
           " MiB";
  });
  AddFaulting(list, "export_import_chunk_of_1", [](Case& c) {
    CUmemAllocationProp prop = c.s.Prop(kPeer);
    prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    CUmemGenericAllocationHandle handle = 0;
    Need(c.cu().MemCreate(&handle, kChunk, &prop, 0), "cuMemCreate");
    int fd = -1;
    Need(c.cu().MemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
         "cuMemExportToShareableHandle");
    CUmemGenericAllocationHandle imported = 0;
    Need(c.cu().MemImportFromShareableHandle(&imported, reinterpret_cast<void*>(static_cast<intptr_t>(fd)),
                                             CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
         "cuMemImportFromShareableHandle");
    close(fd);
    CUmemAllocationProp seen = {};
    Need(c.cu().MemGetAllocationPropertiesFromHandle(&seen, imported), "properties");
    const CUdeviceptr va = c.scope.Reserve(2 * kChunk);
    c.scope.Map(va, kChunk, handle);
    c.scope.Map(va + kChunk, kChunk, imported);
    Need(c.Access(va, 2, {kOwn}), "cuMemSetAccess");
    Need(c.Fill(va, kWords, 20), "filling");
    const std::string contents = c.Out(va + kChunk, kWords, 20);
    c.cu().MemRelease(imported);
    c.cu().MemRelease(handle);
    return contents + ", location " + std::to_string(seen.location.type) + " id " +
           std::to_string(seen.location.id);
  });
}

}  // namespace

void AddPeerLegacyProbes(ProbeList& list) {
  AddLegacyAccess(list);
  AddLegacyWork(list);
  AddAttributes(list);
  AddInfoAndSharing(list);
}

}  // namespace gpuroom::conformance
