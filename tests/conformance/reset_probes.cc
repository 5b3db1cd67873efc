// What outlives cuDevicePrimaryCtxReset and the last release of a primary
// context. The probes leave the process broken on purpose, so each is isolated
// and cleans nothing up: its worker ends with it.
#include "contents.h"
#include "probe.h"

namespace gpuroom::conformance {
namespace {

enum class End { kReset, kRelease };

CUresult EndContext(Session& s, End end) {
  return end == End::kReset ? s.cu().DevicePrimaryCtxReset(s.device())
                            : s.cu().DevicePrimaryCtxRelease(s.device());
}

void Again(Session& s) {
  CUcontext context = nullptr;
  Need(s.cu().DevicePrimaryCtxRetain(&context, s.device()), "cuDevicePrimaryCtxRetain again");
  Need(s.cu().CtxSetCurrent(context), "cuCtxSetCurrent");
}

std::string TypeOf(Session& s, CUdeviceptr p) {
  int type = 0;
  const CUresult result = s.cu().PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p);
  return result == CUDA_SUCCESS ? "type " + std::to_string(type) : Name(result);
}

struct Mapping {
  CUdeviceptr va = 0;
  CUmemGenericAllocationHandle handle = 0;
};

Mapping Map(Session& s, Place place) {
  Mapping mapping;
  const CUmemAllocationProp prop = s.Prop(place);
  Need(s.cu().MemAddressReserve(&mapping.va, kChunk, 0, 0, 0), "cuMemAddressReserve");
  Need(s.cu().MemCreate(&mapping.handle, kChunk, &prop, 0), "cuMemCreate");
  Need(s.cu().MemMap(mapping.va, kChunk, 0, mapping.handle, 0), "cuMemMap");
  const CUmemAccessDesc access = {s.Location(Place::kDevice), CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  Need(s.cu().MemSetAccess(mapping.va, kChunk, &access, 1), "cuMemSetAccess");
  FillAndWait(s, mapping.va, kWordsPerChunk, 1);
  return mapping;
}

std::string Contents(Session& s, CUdeviceptr va) {
  std::vector<uint64_t> words(kWordsPerChunk);
  const CUresult result = s.cu().MemcpyDtoH(words.data(), va, kChunk);
  return result == CUDA_SUCCESS ? CheckHere(words.data(), kWordsPerChunk, 1) : Name(result);
}

void AddOf(ProbeList& list, const char* topic, End end) {
  const auto add = [&](const char* name, std::function<std::string(Session&)> body) {
    list.push_back({std::string(topic) + "." + name, std::move(body), Isolation::kIsolated});
  };
  add("current_context", [end](Session& s) {
    const CUresult ended = EndContext(s, end);
    CUcontext current = nullptr;
    const CUresult got = s.cu().CtxGetCurrent(&current);
    CUdeviceptr p = 0;
    const CUresult synchronized = s.cu().CtxSynchronize();
    return Name(ended) + ", current " + Name(got) + (current == s.context() ? " the old one" : " another") +
           ", synchronize " + Name(synchronized) + ", allocate " + Name(s.cu().MemAlloc(&p, kMiB));
  });
  add("context_retained_again", [end](Session& s) {
    const CUcontext old = s.context();
    Need(EndContext(s, end), "ending the context");
    CUcontext context = nullptr;
    const CUresult result = s.cu().DevicePrimaryCtxRetain(&context, s.device());
    return Name(result) + (context == old ? ", the same address" : ", another address");
  });
  add("cuMemAlloc", [end](Session& s) {
    CUdeviceptr p = 0;
    Need(s.cu().MemAlloc(&p, 64 * kMiB), "cuMemAlloc");
    Need(EndContext(s, end), "ending the context");
    std::string text = "at once " + TypeOf(s, p);
    Again(s);
    text += ", in the new context " + TypeOf(s, p);
    return text + ", free " + Name(s.cu().MemFree(p));
  });
  for (const auto& [name, place] :
       {std::pair{"device_mapping", Place::kDevice}, {"node_mapping", Place::kNode}}) {
    const Place where = place;
    add(name, [end, where](Session& s) {
      const Mapping mapping = Map(s, where);
      Need(EndContext(s, end), "ending the context");
      std::string text = "at once " + TypeOf(s, mapping.va);
      Again(s);
      const CUmemLocation device = s.Location(Place::kDevice);
      unsigned long long flags = 99;
      const CUresult got = s.cu().MemGetAccess(&flags, &device, mapping.va);
      text += ", in the new context " + TypeOf(s, mapping.va) + ", access " + Name(got) + " " +
              std::to_string(flags) + ", contents " + Contents(s, mapping.va);
      const CUmemAccessDesc access = {device, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
      text += ", set access " + Name(s.cu().MemSetAccess(mapping.va, kChunk, &access, 1));
      text += ", contents " + Contents(s, mapping.va);
      text += ", unmap " + Name(s.cu().MemUnmap(mapping.va, kChunk));
      text += ", release " + Name(s.cu().MemRelease(mapping.handle));
      return text + ", free address " + Name(s.cu().MemAddressFree(mapping.va, kChunk));
    });
  }
  add("free_memory", [end](Session& s) {
    const CUmemAllocationProp prop = s.Prop(Place::kDevice);
    const auto free_bytes = [&s] {
      size_t bytes = 0;
      size_t total = 0;
      Need(s.cu().MemGetInfo(&bytes, &total), "cuMemGetInfo");
      return static_cast<int64_t>(bytes);
    };
    const int64_t before = free_bytes();
    CUdeviceptr p = 0;
    CUmemGenericAllocationHandle handle = 0;
    Need(s.cu().MemAlloc(&p, 256 * kMiB), "cuMemAlloc");
    Need(s.cu().MemCreate(&handle, 1024 * kMiB, &prop, 0), "cuMemCreate");
    Need(EndContext(s, end), "ending the context");
    Again(s);
    // A context takes a little itself; what counts is which of 256 and 1024 MiB is still gone.
    const int64_t gone = before - free_bytes();
    const bool chunk_gone = gone > static_cast<int64_t>(900 * kMiB);
    const bool alloc_gone =
        gone - (chunk_gone ? static_cast<int64_t>(1024 * kMiB) : 0) > static_cast<int64_t>(200 * kMiB);
    return std::string("cuMemAlloc's ") + (alloc_gone ? "still taken" : "free") + ", the chunk's " +
           (chunk_gone ? "still taken" : "free");
  });
}

}  // namespace

void AddResetProbes(ProbeList& list) {
  AddOf(list, "reset", End::kReset);
  AddOf(list, "last_release", End::kRelease);
}

}  // namespace gpuroom::conformance
