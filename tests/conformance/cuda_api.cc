#include "cuda_api.h"

#include <dlfcn.h>

namespace gpuroom::conformance {
namespace {

// Stands in for a function that the driver lacks.
template <typename... Arguments>
CUresult Missing(Arguments...) {
  return CUDA_ERROR_NOT_FOUND;
}

template <typename... Arguments>
void Set(CUresult (*&member)(Arguments...), void* address) {
  member =
      address == nullptr ? &Missing<Arguments...> : reinterpret_cast<CUresult (*)(Arguments...)>(address);
}

}  // namespace

Result<Cuda> BindCuda() {
  Result<Driver> driver = BindDriver();
  if (!driver.ok()) return driver.status();
  Cuda cuda;
  static_cast<Driver&>(cuda) = *driver;
  const auto get_address =
      reinterpret_cast<decltype(&cuGetProcAddress_v2)>(dlsym(cuda.library, "cuGetProcAddress_v2"));
  if (get_address == nullptr) return Status(Code::kDriver, "libcuda.so.1 has no cuGetProcAddress_v2");
  const auto bind = [&](const char* name, const char* symbol, int version) {
    void* address = nullptr;
    if (get_address(name, &address, version, CU_GET_PROC_ADDRESS_LEGACY_STREAM, nullptr) != CUDA_SUCCESS) {
      address = nullptr;
    }
    return address != nullptr ? address : dlsym(cuda.library, symbol);
  };
  // Optional ones of the binding may be null as well.
#define GPUROOM_DRIVER_FUNCTION(member, name, symbol, version, need) \
  if (cuda.member == nullptr) Set(cuda.member, nullptr);
#include "driver/functions.def"
#define GPUROOM_CUDA_FUNCTION(member, name, symbol, version) Set(cuda.member, bind(name, #symbol, version));
#include "cuda_functions.def"
  return cuda;
}

}  // namespace gpuroom::conformance
