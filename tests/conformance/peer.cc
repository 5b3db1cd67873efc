#include "peer.h"

#include "contents.h"
#include "kernels.h"

namespace gpuroom::conformance::peer {

Second::Second(Session& s) : s_(s) {
  Need(s.cu().DevicePrimaryCtxRetain(&context_, 1), "cuDevicePrimaryCtxRetain of device 1");
}

Second::Current::Current(Session& s, CUcontext context) : s_(s) {
  Need(s.cu().CtxPushCurrent(context), "cuCtxPushCurrent");
}

Second::Current::~Current() {
  CUcontext popped = nullptr;
  s_.cu().CtxPopCurrent(&popped);
}

CUresult Second::Fill(CUdeviceptr p, uint64_t words, uint64_t seed) {
  const Current current(s_, context_);
  CUmodule module = nullptr;
  Need(s_.cu().ModuleLoadData(&module, samples::KernelsPtx()), "cuModuleLoadData on device 1");
  const CUmodule own = s_.ExchangeModule(module);
  CUresult result = CUDA_SUCCESS;
  try {
    s_.Fill(p, words, seed, nullptr);
    result = s_.cu().CtxSynchronize();
  } catch (const ProbeFailure&) {
    s_.ExchangeModule(own);
    throw;
  }
  s_.ExchangeModule(own);
  s_.cu().ModuleUnload(module);
  return result;
}

CUdeviceptr Case::Bare(const std::vector<Place>& places) {
  const CUdeviceptr va = scope.Reserve(places.size() * kChunk);
  for (size_t i = 0; i < places.size(); ++i) scope.Map(va + i * kChunk, kChunk, scope.Create(places[i]));
  return va;
}

CUresult Case::Access(CUdeviceptr va, size_t chunks, const std::vector<Place>& whom) {
  std::vector<CUmemAccessDesc> access;
  for (Place place : whom) access.push_back({s.Location(place), CU_MEM_ACCESS_FLAGS_PROT_READWRITE});
  return cu().MemSetAccess(va, chunks * kChunk, access.data(), access.size());
}

CUdeviceptr Case::With(const std::vector<Place>& places, const std::vector<Place>& whom) {
  const CUdeviceptr va = Bare(places);
  Need(Access(va, places.size(), whom), "cuMemSetAccess");
  return va;
}

CUdeviceptr Case::AllocOnSecond(size_t bytes) {
  return second.Do([&] { return scope.Alloc(bytes); });
}

CUresult Case::Fill(CUdeviceptr p, uint64_t words, uint64_t seed) {
  s.Fill(p, words, seed, nullptr);
  return cu().CtxSynchronize();
}

std::string Case::Out(CUdeviceptr p, uint64_t words, uint64_t seed) {
  std::vector<uint64_t> copy(words);
  const CUresult result = cu().MemcpyDtoH(copy.data(), p, words * sizeof(uint64_t));
  return result == CUDA_SUCCESS ? CheckHere(copy.data(), words, seed) : "copy out " + Name(result);
}

void Add(ProbeList& list, const std::string& name, Body body, Isolation isolation) {
  list.push_back({"peer." + name,
                  [body](Session& s) {
                    if (s.device_count() < 2) {
                      return std::string(kNotHere) + "needs two GPUs, this machine has " +
                             std::to_string(s.device_count());
                    }
                    Case c(s);
                    return body(c);
                  },
                  isolation});
}

void AddFaulting(ProbeList& list, const std::string& name, Body body) {
  Add(list, name, std::move(body), Isolation::kIsolated);
}

}  // namespace gpuroom::conformance::peer
