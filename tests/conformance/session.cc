#include "session.h"

#include <cstring>
#include <string_view>

#include "kernels.h"

namespace gpuroom::conformance {
namespace {

const Cuda* g_cuda = nullptr;  // for Name: set by the process's one Session

constexpr char kAlloc[] = "allocation";
constexpr char kReservation[] = "reservation";
constexpr char kHandle[] = "handle";
constexpr char kMapping[] = "mapping";

uint64_t KeyOf(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

}  // namespace

std::string Name(CUresult result) {
  const char* text = nullptr;
  if (g_cuda == nullptr || g_cuda->GetErrorName(result, &text) != CUDA_SUCCESS || text == nullptr) {
    return std::to_string(static_cast<int>(result));
  }
  std::string_view name(text);
  for (std::string_view prefix : {"CUDA_", "ERROR_"}) {
    if (name.substr(0, prefix.size()) == prefix) name.remove_prefix(prefix.size());
  }
  return std::string(name);
}

void Need(CUresult result, const char* step) {
  if (result != CUDA_SUCCESS)
    throw ProbeFailure(std::string("not reached: ") + step + " gave " + Name(result));
}

Session::Session() {
  Result<Cuda> bound = BindCuda();
  if (!bound.ok()) throw ProbeFailure(bound.status().what());
  cu_ = *bound;
  g_cuda = &cu_;
}

void Session::Start() {
  if (module_ != nullptr) return;
  Need(cu_.Init(0), "cuInit");
  Need(cu_.DeviceGetCount(&device_count_), "cuDeviceGetCount");
  Need(cu_.DeviceGet(&device_, 0), "cuDeviceGet");
  Need(cu_.DevicePrimaryCtxRetain(&context_, device_), "cuDevicePrimaryCtxRetain");
  Need(cu_.CtxSetCurrent(context_), "cuCtxSetCurrent");
  int node = -1;
  Need(cu_.DeviceGetAttribute(&node, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, device_), "HOST_NUMA_ID");
  host_node_ = node < 0 ? 0 : node;
  Need(cu_.ModuleLoadData(&module_, samples::KernelsPtx()), "cuModuleLoadData");
}

CUfunction Session::Kernel(const char* name) {
  CUfunction function = nullptr;
  Need(cu_.ModuleGetFunction(&function, module_, name), name);
  return function;
}

CUmemLocation Session::Location(Place place) const {
  CUmemLocation location = {};
  switch (place) {
    case Place::kDevice:
    case Place::kPeer:
      location.type = CU_MEM_LOCATION_TYPE_DEVICE;
      location.id = place == Place::kPeer ? 1 : 0;
      break;
    case Place::kNode:
      location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
      location.id = host_node_;
      break;
    case Place::kHost: location.type = CU_MEM_LOCATION_TYPE_HOST; break;
  }
  return location;
}

CUmemAllocationProp Session::Prop(Place place) const {
  CUmemAllocationProp prop = {};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location = Location(place);
  return prop;
}

void Session::Launch(const char* kernel, unsigned blocks, void** arguments, CUstream stream) {
  Need(cu_.LaunchKernel(Kernel(kernel), blocks, 1, 1, 256, 1, 1, 0, stream, arguments, nullptr), kernel);
}

void Session::Fill(CUdeviceptr p, uint64_t words, uint64_t seed, CUstream stream) {
  void* arguments[] = {&p, &words, &seed};
  Launch("gpuroom_fill", 64, arguments, stream);
}

void Session::Sum(CUdeviceptr p, uint64_t words, CUdeviceptr out, CUstream stream) {
  void* arguments[] = {&p, &words, &out};
  Launch("gpuroom_sum", 64, arguments, stream);
}

void Session::Verify(CUdeviceptr p, uint64_t words, uint64_t seed, CUdeviceptr bad, CUstream stream) {
  void* arguments[] = {&p, &words, &seed, &bad};
  Launch("gpuroom_verify", 64, arguments, stream);
}

void Session::Spin(uint64_t nanoseconds, CUstream stream) {
  void* arguments[] = {&nanoseconds};
  Launch("gpuroom_spin", 1, arguments, stream);
}

Scope::~Scope() {
  cu_.CtxSynchronize();  // nothing may still use what goes; a failed probe's work too
  while (!entries_.empty()) {
    const Entry entry = std::move(entries_.back());
    entries_.pop_back();
    entry.undo();
  }
}

CUdeviceptr Scope::Alloc(size_t bytes) {
  CUdeviceptr p = 0;
  Need(cu_.MemAlloc(&p, bytes), "cuMemAlloc");
  Push(kAlloc, p, [this, p] { cu_.MemFree(p); });
  return p;
}

CUdeviceptr Scope::AllocAsync(size_t bytes, CUstream stream) {
  CUdeviceptr p = 0;
  Need(cu_.MemAllocAsync(&p, bytes, stream), "cuMemAllocAsync");
  Push(kAlloc, p, [this, p] { cu_.MemFree(p); });
  Need(cu_.StreamSynchronize(stream), "cuStreamSynchronize");
  return p;
}

CUdeviceptr Scope::Managed(size_t bytes) {
  CUdeviceptr p = 0;
  Need(cu_.MemAllocManaged(&p, bytes, CU_MEM_ATTACH_GLOBAL), "cuMemAllocManaged");
  Push(kAlloc, p, [this, p] { cu_.MemFree(p); });
  return p;
}

void* Scope::Pinned(size_t bytes) {
  void* p = nullptr;
  Need(cu_.MemHostAlloc(&p, bytes, CU_MEMHOSTALLOC_PORTABLE), "cuMemHostAlloc");
  Push("pinned", KeyOf(p), [this, p] { cu_.MemFreeHost(p); });
  return p;
}

CUdeviceptr Scope::Reserve(size_t bytes) {
  CUdeviceptr va = 0;
  Need(cu_.MemAddressReserve(&va, bytes, 0, 0, 0), "cuMemAddressReserve");
  Push(kReservation, va, [this, va, bytes] { cu_.MemAddressFree(va, bytes); });
  return va;
}

CUmemGenericAllocationHandle Scope::Create(Place place, size_t bytes) {
  const CUmemAllocationProp prop = session_.Prop(place);
  CUmemGenericAllocationHandle handle = 0;
  Need(cu_.MemCreate(&handle, bytes, &prop, 0), "cuMemCreate");
  Push(kHandle, handle, [this, handle] { cu_.MemRelease(handle); });
  return handle;
}

void Scope::Map(CUdeviceptr va, size_t bytes, CUmemGenericAllocationHandle handle) {
  Need(cu_.MemMap(va, bytes, 0, handle, 0), "cuMemMap");
  Push(kMapping, va, [this, va, bytes] { cu_.MemUnmap(va, bytes); });
}

void Scope::Access(CUdeviceptr va, size_t bytes, Place place) {
  CUmemAccessDesc access = {};
  access.location = session_.Location(place);
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  Need(cu_.MemSetAccess(va, bytes, &access, 1), "cuMemSetAccess");
}

CUstream Scope::Stream(unsigned flags) {
  CUstream stream = nullptr;
  Need(cu_.StreamCreate(&stream, flags), "cuStreamCreate");
  Push("stream", KeyOf(stream), [this, stream] { cu_.StreamDestroy(stream); });
  return stream;
}

CUevent Scope::Event() {
  CUevent event = nullptr;
  Need(cu_.EventCreate(&event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
  Push("event", KeyOf(event), [this, event] { cu_.EventDestroy(event); });
  return event;
}

CUdeviceptr Scope::Range(const std::vector<Place>& places) {
  const CUdeviceptr va = Reserve(places.size() * kChunk);
  for (size_t i = 0; i < places.size(); ++i) Map(va + i * kChunk, kChunk, Create(places[i]));
  Access(va, places.size() * kChunk);
  return va;
}

CUdeviceptr Scope::Mixed(size_t chunks) {
  std::vector<Place> places;
  for (size_t i = 0; i < chunks; ++i) places.push_back(i % 2 == 0 ? Place::kDevice : Place::kNode);
  return Range(places);
}

CUresult Scope::Free(CUdeviceptr p) { return Drop(kAlloc, p, cu_.MemFree(p)); }

CUresult Scope::FreeAsync(CUdeviceptr p, CUstream stream) {
  return Drop(kAlloc, p, cu_.MemFreeAsync(p, stream));
}

CUresult Scope::AddressFree(CUdeviceptr va, size_t bytes) {
  return Drop(kReservation, va, cu_.MemAddressFree(va, bytes));
}

CUresult Scope::Release(CUmemGenericAllocationHandle handle) {
  return Drop(kHandle, handle, cu_.MemRelease(handle));
}

CUresult Scope::Unmap(CUdeviceptr va, size_t bytes) { return Drop(kMapping, va, cu_.MemUnmap(va, bytes)); }

CUresult Scope::Drop(const char* kind, uint64_t key, CUresult result) {
  if (result != CUDA_SUCCESS) return result;
  for (size_t i = entries_.size(); i-- > 0;) {
    if (entries_[i].kind == kind && entries_[i].key == key) {
      entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    }
  }
  return result;
}

}  // namespace gpuroom::conformance
