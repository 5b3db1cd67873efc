// The operations on an NVIDIA GPU.
#include <array>
#include <cstdio>

#include "cumem/operations.h"
#include "driver/driver.h"
#include "driver/synchronize.h"

namespace gpuroom::cumem {
namespace {

constexpr int kMaxDevices = 64;

// How memory may be shared with other processes and machines, the most wanted first.
constexpr CUmemAllocationHandleType kShareable[] = {
    CU_MEM_HANDLE_TYPE_FABRIC, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, CU_MEM_HANDLE_TYPE_NONE};
constexpr size_t kNotShared = 2;

struct Traits {
  bool known = false;
  bool rdma = false;
  size_t shareable = 0;         // index into kShareable: the best that has not been refused
  CUcontext primary = nullptr;  // retained once, for the life of the process
};

class CudaOperations : public Operations {
 public:
  explicit CudaOperations(const Driver& driver) : driver_(driver) {}

  const char* prefix() const override { return "cuMem"; }
  uint64_t chunk_bytes() const override { return 0; }
  bool aligns() const override { return false; }
  bool IsCapture(int code) const override {
    return code >= CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED && code <= CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  }
  const char* Text(int code) const override;

  int Enter(int device) override;
  int Drain(int device) override;
  int Granularity(int device, size_t* bytes) override;
  int Create(int device, size_t bytes, uint64_t* handle) override;
  int SetAccess(int device, uint64_t va, size_t bytes) override;
  int Reserve(uint64_t* va, size_t bytes, size_t alignment) override {
    CUdeviceptr address = 0;
    const CUresult result = driver_.MemAddressReserve(&address, bytes, alignment, 0, 0);
    *va = address;
    return result;
  }
  int FreeAddress(uint64_t va, size_t bytes) override { return driver_.MemAddressFree(va, bytes); }
  int Release(uint64_t handle) override { return driver_.MemRelease(handle); }
  int Map(uint64_t va, size_t bytes, uint64_t handle) override {
    return driver_.MemMap(va, bytes, 0, handle, 0);
  }
  int Unmap(uint64_t va, size_t bytes) override { return driver_.MemUnmap(va, bytes); }

 private:
  static CUmemAllocationProp Properties(int device);
  bool Has(int device, CUdevice_attribute attribute) const;
  Traits& Learn(int device);
  CUresult Primary(int device, CUcontext* context);

  const Driver driver_;
  std::array<Traits, kMaxDevices> traits_{};
};

const char* CudaOperations::Text(int code) const {
  const char* text = nullptr;
  const auto result = static_cast<CUresult>(code);
  if (driver_.GetErrorString != nullptr) driver_.GetErrorString(result, &text);
  return text != nullptr ? text : ErrorName(result);
}

CUmemAllocationProp CudaOperations::Properties(int device) {
  CUmemAllocationProp prop = {};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  prop.location.id = device;
  return prop;
}

// An attribute that this driver does not know is a feature that it does not have.
bool CudaOperations::Has(int device, CUdevice_attribute attribute) const {
  int value = 0;
  return driver_.DeviceGetAttribute(&value, attribute, device) == CUDA_SUCCESS && value != 0;
}

Traits& CudaOperations::Learn(int device) {
  Traits& traits = traits_[static_cast<size_t>(device)];
  if (traits.known) return traits;
  traits.rdma = Has(device, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED);
  const bool fabric = Has(device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED);
  const bool posix = Has(device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
  traits.shareable = fabric ? 0 : posix ? 1 : kNotShared;
  traits.known = true;
  return traits;
}

CUresult CudaOperations::Primary(int device, CUcontext* context) {
  Traits& traits = traits_[static_cast<size_t>(device)];
  if (traits.primary == nullptr) {
    const CUresult result = driver_.DevicePrimaryCtxRetain(&traits.primary, device);
    if (result != CUDA_SUCCESS) {
      traits.primary = nullptr;
      return result;
    }
  }
  *context = traits.primary;
  return CUDA_SUCCESS;
}

int CudaOperations::Enter(int device) {
  if (device < 0 || device >= kMaxDevices) return CUDA_ERROR_INVALID_DEVICE;
  CUcontext context = nullptr;
  CUresult result = driver_.CtxGetCurrent(&context);
  if (result != CUDA_SUCCESS || context != nullptr) return result;
  result = Primary(device, &context);
  return result != CUDA_SUCCESS ? result : driver_.CtxSetCurrent(context);
}

int CudaOperations::Drain(int device) {
  CUcontext current = nullptr;
  CUresult result = driver_.CtxGetCurrent(&current);
  if (result != CUDA_SUCCESS) return result;
  // Programs work in the primary context, as the runtime does; but whoever made another one current
  // here may work in that.
  unsigned flags = 0;
  int active = 0;
  CUcontext primary = nullptr;
  result = driver_.DevicePrimaryCtxGetState(device, &flags, &active);
  if (result == CUDA_SUCCESS && active != 0) result = Primary(device, &primary);
  if (result != CUDA_SUCCESS) return result;
  if (primary != nullptr) {
    const Status waited = SynchronizeContext(driver_, primary);
    if (!waited.ok()) return waited.native();
  }
  return current == nullptr || current == primary ? CUDA_SUCCESS : driver_.CtxSynchronize();
}

int CudaOperations::Granularity(int device, size_t* bytes) {
  const CUmemAllocationProp prop = Properties(device);
  return driver_.MemGetAllocationGranularity(bytes, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
}

int CudaOperations::Create(int device, size_t bytes, uint64_t* handle) {
  Traits& traits = Learn(device);
  CUmemAllocationProp prop = Properties(device);
  prop.allocFlags.gpuDirectRDMACapable = traits.rdma ? 1 : 0;
  for (size_t kind = traits.shareable;; ++kind) {
    prop.requestedHandleTypes = kShareable[kind];
    CUmemGenericAllocationHandle made = 0;
    const CUresult result = driver_.MemCreate(&made, bytes, &prop, 0);
    // A device may say that it has fabric handles where the machine is not set up for them.
    const bool refused = result == CUDA_ERROR_NOT_PERMITTED || result == CUDA_ERROR_NOT_SUPPORTED;
    if (refused && kind < kNotShared) continue;
    if (result == CUDA_SUCCESS) {
      traits.shareable = kind;
      *handle = made;
    }
    return result;
  }
}

int CudaOperations::SetAccess(int device, uint64_t va, size_t bytes) {
  CUmemAccessDesc access = {};
  access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  access.location.id = device;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return driver_.MemSetAccess(va, bytes, &access, 1);
}

}  // namespace

Operations* BindCuda(char* reason, size_t size) {
  const Result<Driver> driver = BindDriver();
  if (!driver.ok()) {
    std::snprintf(reason, size, "%s", driver.status().what());
    return nullptr;
  }
  int devices = 0;
  CUresult result = driver->Init(0);
  if (result == CUDA_SUCCESS) result = driver->DeviceGetCount(&devices);
  if (result == CUDA_SUCCESS && devices > 0) return new CudaOperations(*driver);
  std::snprintf(reason, size, "libcuda.so.1 has no device (%s)",
                ErrorName(result != CUDA_SUCCESS ? result : CUDA_ERROR_NO_DEVICE));
  return nullptr;
}

}  // namespace gpuroom::cumem
