// cuGetProcAddress: from a function's unversioned name and a CUDA version to the
// newest form that version knows.
#include <cstring>

#include "entry.h"

namespace gpuroom::sim {
namespace {

struct Entry {
  const char* name;
  int version;
  void* function;
  int thread_version;  // of the per-thread form; 0: there is none
  void* thread_function;
};

template <typename F>
void* Pointer(F function) {
  return reinterpret_cast<void*>(function);
}

const Entry* Entries(size_t* count) {
  static const Entry kEntries[] = {
#define SIM_FUNCTION(name, symbol, version) {#name, version, Pointer(&symbol), 0, nullptr},
#define SIM_STREAM_FUNCTION(name, symbol, version, suffix, thread_version, arity) \
  {#name, version, Pointer(&symbol), thread_version, Pointer(&symbol##suffix)},
#include "entry_points.def"
  };
  *count = std::size(kEntries);
  return kEntries;
}

CUresult Lookup(const char* name, void** out, int version, cuuint64_t flags,
                CUdriverProcAddressQueryResult* status, bool flagged) {
  constexpr cuuint64_t kKnown =
      CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
  if ((flags & ~kKnown) != 0) return CUDA_ERROR_INVALID_VALUE;
  const bool per_thread = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0;
  *out = nullptr;  // a null pointer faults here, as in the driver
  if (version > GetState().profile.driver) return CUDA_ERROR_INVALID_VALUE;
  if (version < 0) version = GetState().profile.driver;
  bool known = false;
  int best = -1;
  size_t count = 0;
  const Entry* entries = Entries(&count);
  for (size_t i = 0; i < count; ++i) {
    const Entry& entry = entries[i];
    if (std::strcmp(entry.name, name) != 0) continue;
    known = true;
    const bool thread_form = per_thread && entry.thread_function != nullptr;
    const int since = thread_form ? entry.thread_version : entry.version;
    if (entry.version > version || entry.version < best) continue;
    best = entry.version;
    *out = thread_form && since <= version ? entry.thread_function : entry.function;
  }
  if (status != nullptr) {
    *status = *out != nullptr ? CU_GET_PROC_ADDRESS_SUCCESS
              : known         ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                              : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  }
  // cuGetProcAddress_v2 answers with the status alone.
  return *out != nullptr || flagged ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

}  // namespace
}  // namespace gpuroom::sim

SIM_API cuGetProcAddress(const char* name, void** out, int version, cuuint64_t flags) {
  return gpuroom::sim::Lookup(name, out, version, flags, nullptr, false);
}

SIM_API cuGetProcAddress_v2(const char* name, void** out, int version, cuuint64_t flags,
                            CUdriverProcAddressQueryResult* status) {
  return gpuroom::sim::Lookup(name, out, version, flags, status, true);
}
