// cuGetProcAddress: versions, per-thread flags, unknown names, and whether it
// answers with the address of the exported symbol.
#include <dlfcn.h>

#include "probe.h"

namespace gpuroom::conformance {
namespace {

std::string StatusName(CUdriverProcAddressQueryResult status) {
  switch (status) {
    case CU_GET_PROC_ADDRESS_SUCCESS: return "found";
    case CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND: return "symbol not found";
    case CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT: return "version not sufficient";
  }
  return "status " + std::to_string(static_cast<int>(status));
}

// Which exported symbol of that family the address is.
std::string SymbolOf(const Cuda& cu, const std::string& name, const void* address) {
  if (address == nullptr) return "null";
  for (const char* suffix : {"", "_v2", "_v3", "_v4", "_ptsz", "_ptds", "_v2_ptds", "_v2_ptsz", "_v3_ptsz"}) {
    const std::string symbol = name + suffix;
    if (dlsym(cu.library, symbol.c_str()) == address) return "the symbol " + symbol;
  }
  return "an address without a symbol";
}

std::string Lookup(const Cuda& cu, const std::string& name, int version, cuuint64_t flags) {
  void* address = nullptr;
  auto status = static_cast<CUdriverProcAddressQueryResult>(77);
  const CUresult result = cu.GetProcAddress(name.c_str(), &address, version, flags, &status);
  return Name(result) + ", " + StatusName(status) + ", " + SymbolOf(cu, name, address);
}

// The functions for which the address differs from dlsym's; "none" if there is none.
std::string Differing(const Cuda& cu) {
  std::string differing;
  const auto compare = [&](const char* name, const char* symbol, int version) {
    void* address = nullptr;
    cu.GetProcAddress(name, &address, version, CU_GET_PROC_ADDRESS_LEGACY_STREAM, nullptr);
    if (address == nullptr || address != dlsym(cu.library, symbol)) differing += std::string(" ") + symbol;
  };
#define GPUROOM_DRIVER_FUNCTION(member, name, symbol, version, need) compare(name, #symbol, version);
#include "driver/functions.def"
#define GPUROOM_CUDA_FUNCTION(member, name, symbol, version) compare(name, #symbol, version);
#include "cuda_functions.def"
  return differing.empty() ? "none" : differing.substr(1);
}

struct Case {
  const char* probe;
  const char* name;
  int version;
  cuuint64_t flags;
};

constexpr cuuint64_t kLegacy = CU_GET_PROC_ADDRESS_LEGACY_STREAM;
constexpr cuuint64_t kPerThread = CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;

constexpr Case kCases[] = {
    {"MemAlloc_13000", "cuMemAlloc", 13000, kLegacy},
    {"MemAlloc_3020", "cuMemAlloc", 3020, kLegacy},
    {"MemAlloc_2000", "cuMemAlloc", 2000, kLegacy},
    {"MemAlloc_flags_0", "cuMemAlloc", 13000, 0},
    {"MemAlloc_per_thread", "cuMemAlloc", 13000, kPerThread},
    {"MemAlloc_v2_by_name", "cuMemAlloc_v2", 13000, kLegacy},
    {"MemAllocAsync_13000", "cuMemAllocAsync", 13000, kLegacy},
    {"MemAllocAsync_11010", "cuMemAllocAsync", 11010, kLegacy},
    {"MemAllocAsync_per_thread", "cuMemAllocAsync", 13000, kPerThread},
    {"MemAllocAsync_ptsz_by_name", "cuMemAllocAsync_ptsz", 13000, kLegacy},
    {"MemcpyHtoD_13000", "cuMemcpyHtoD", 13000, kLegacy},
    {"MemcpyHtoD_per_thread", "cuMemcpyHtoD", 13000, kPerThread},
    {"MemGetInfo_13000", "cuMemGetInfo", 13000, kLegacy},
    {"DeviceTotalMem_13000", "cuDeviceTotalMem", 13000, kLegacy},
    {"MemPrefetchAsync_8000", "cuMemPrefetchAsync", 8000, kLegacy},
    {"MemPrefetchAsync_12020", "cuMemPrefetchAsync", 12020, kLegacy},
    {"GetProcAddress_11030", "cuGetProcAddress", 11030, kLegacy},
    {"GetProcAddress_12000", "cuGetProcAddress", 12000, kLegacy},
    {"GetProcAddress_13000", "cuGetProcAddress", 13000, kLegacy},
    {"GetProcAddress_v2_by_name", "cuGetProcAddress_v2", 13000, kLegacy},
    {"version_0", "cuMemAlloc", 0, kLegacy},
    {"version_negative", "cuMemAlloc", -1, kLegacy},
    {"version_beyond_the_driver", "cuMemAlloc", 99000, kLegacy},
    {"flags_unknown", "cuMemAlloc", 13000, 64},
    {"unknown_name", "cuNoSuchFunction", 13000, kLegacy},
    {"empty_name", "", 13000, kLegacy},
};

}  // namespace

void AddLookupProbes(ProbeList& list) {
  const auto add = [&](const char* name, ProbeBody body) { list.push_back({name, std::move(body)}); };
  add("lookup.differ_from_dlsym", [](Session& s) { return Differing(s.cu()); });
  for (const Case& c : kCases) {
    list.push_back({std::string("lookup.") + c.probe,
                    [c](Session& s) { return Lookup(s.cu(), c.name, c.version, c.flags); }});
  }
  add("lookup.null_result_pointer",
      [](Session& s) { return Name(s.cu().GetProcAddress("cuMemAlloc", nullptr, 13000, kLegacy, nullptr)); });
  add("lookup.null_name", [](Session& s) {
    void* address = nullptr;
    return Name(s.cu().GetProcAddress(nullptr, &address, 13000, kLegacy, nullptr));
  });
  add("lookup.null_status", [](Session& s) {
    void* address = nullptr;
    const CUresult known = s.cu().GetProcAddress("cuMemAlloc", &address, 13000, kLegacy, nullptr);
    const CUresult unknown = s.cu().GetProcAddress("cuNoSuchFunction", &address, 13000, kLegacy, nullptr);
    return Name(known) + ", unknown: " + Name(unknown);
  });
  add("lookup.unknown_name_writes_null", [](Session& s) {
    int untouched = 0;
    void* address = &untouched;
    CUdriverProcAddressQueryResult status;
    s.cu().GetProcAddress("cuNoSuchFunction", &address, 13000, kLegacy, &status);
    return std::string(address == nullptr ? "yes" : "no");
  });
  list.push_back({"lookup.before_init",
                  [](Session& s) { return Lookup(s.cu(), "cuMemAlloc", 13000, kLegacy); }, Isolation::kBare});
}

}  // namespace gpuroom::conformance
