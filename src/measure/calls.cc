#include "measure/calls.h"

#include <dlfcn.h>

namespace gpuroom::measure {
namespace {

using GetProcAddress = CUresult (*)(const char*, void**, int, cuuint64_t, CUdriverProcAddressQueryResult*);

void* Find(const Driver& driver, const char* name, const char* symbol, int version) {
  static constexpr char kGetProcAddress[] = "cuGetProcAddress_v2";
  const auto get = reinterpret_cast<GetProcAddress>(dlsym(driver.library, kGetProcAddress));
  void* address = nullptr;
  if (get != nullptr &&
      get(name, &address, version, CU_GET_PROC_ADDRESS_LEGACY_STREAM, nullptr) == CUDA_SUCCESS &&
      address != nullptr) {
    return address;
  }
  return dlsym(driver.library, symbol);
}

}  // namespace

Result<Calls> BindCalls(const Driver& driver) {
  Calls calls;
#define GPUROOM_MEASURE_FUNCTION(member, name, symbol, version)                                  \
  calls.member = reinterpret_cast<decltype(calls.member)>(Find(driver, name, #symbol, version)); \
  if (calls.member == nullptr) return Status(Code::kDriver, "the driver has no " #symbol);
#include "measure/calls.def"
  return calls;
}

bool IsSimulated(const Driver& driver) { return dlsym(driver.library, "gpuroom_sim_call_count") != nullptr; }

}  // namespace gpuroom::measure
