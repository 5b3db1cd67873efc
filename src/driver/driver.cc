#include "driver/driver.h"

#include <dlfcn.h>

namespace gpuroom {
namespace {

using GetProcAddress = CUresult (*)(const char*, void**, int, cuuint64_t, CUdriverProcAddressQueryResult*);

enum class Need { kRequired, kOptional };

class Binder {
 public:
  Binder(void* library, SymbolLookup lookup) : library_(library), lookup_(lookup) {
    get_proc_ = reinterpret_cast<GetProcAddress>(lookup_(library_, "cuGetProcAddress_v2"));
  }

  // Leaves `function` null when the driver has none.
  template <typename Function>
  void Bind(Function& function, const char* name, const char* symbol, int version, Need need) {
    void* address = nullptr;
    if (get_proc_ == nullptr ||
        get_proc_(name, &address, version, CU_GET_PROC_ADDRESS_LEGACY_STREAM, nullptr) != CUDA_SUCCESS) {
      address = nullptr;
    }
    if (address == nullptr) address = lookup_(library_, symbol);
    if (address == nullptr && need == Need::kRequired && missing_ == nullptr) missing_ = symbol;
    function = reinterpret_cast<Function>(address);
  }

  const char* missing() const { return missing_; }

 private:
  void* library_;
  SymbolLookup lookup_;
  GetProcAddress get_proc_ = nullptr;
  const char* missing_ = nullptr;
};

}  // namespace

Result<Driver> BindDriver(SymbolLookup lookup) {
  if (lookup == nullptr) lookup = [](void* library, const char* name) { return dlsym(library, name); };
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return Status(Code::kNotFound, "libcuda.so.1 was not found; install the NVIDIA driver, or use --sim");
  }
  Driver driver;
  driver.library = library;
  // The version first: an old driver should be told so, not that a symbol is missing.
  const auto get_version =
      reinterpret_cast<decltype(&cuDriverGetVersion)>(lookup(library, "cuDriverGetVersion"));
  if (get_version == nullptr) return Status(Code::kDriver, "libcuda.so.1 has no cuDriverGetVersion");
  const CUresult asked = get_version(&driver.version);  // a stub library refuses even this
  if (asked != CUDA_SUCCESS) return Status(Code::kDriver, "cuDriverGetVersion failed", asked);
  if (driver.version < kMinimumDriverVersion) {
    return Status(Code::kUnsupported,
                  "the NVIDIA driver is older than CUDA 13.0; install driver 580 or newer", driver.version);
  }
  Binder binder(library, lookup);
#define GPUROOM_DRIVER_FUNCTION(member, name, symbol, version, need) \
  binder.Bind(driver.member, name, #symbol, version, Need::need);
#include "driver/functions.def"
  if (binder.missing() != nullptr) return Status(Code::kDriver, binder.missing());
  return driver;
}

}  // namespace gpuroom
