// A small libnvidia-ml.so.1 beside the simulated driver: the same profile, and what the processes on its
// machine use of memory, this one where the simulated libcuda is loaded in it.
// NVML's header is not needed to build: its types are a stable C ABI, and the
// few that matter are declared here.
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "device_names.h"
#include "machine.h"
#include "profile.h"

namespace gpuroom::sim {
namespace {

enum Result : int {
  kSuccess = 0,
  kUninitialized = 1,
  kInvalidArgument = 2,
  kNotSupported = 3,
  kNotFound = 6,
  kInsufficientSize = 7,
};

struct Memory {
  unsigned long long total, free, used;
};
struct MemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
struct PciInfo {
  char bus_id_legacy[16];
  unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
  char bus_id[32];
};
static_assert(sizeof(Memory) == 24 && sizeof(MemoryV2) == 40 && sizeof(PciInfo) == 68);

constexpr unsigned kMemoryV2 = sizeof(MemoryV2) | (2U << 24);

std::atomic<int> g_references{0};

const Profile& GetProfile() {
  static const Profile* profile = [] {
    auto* parsed = new Profile;
    std::string error;
    const char* text = std::getenv("GPUROOM_SIM");
    if (!ParseProfile(text != nullptr && *text != 0 ? text : "h200", parsed, &error)) parsed->devices = 0;
    return parsed;
  }();
  return *profile;
}

// A handle is the device's number plus one, and more for the part of the GPU (MIG) that has the same UUID
// behind another prefix and all of the memory.
constexpr uintptr_t kPart = 0x100;

bool IsPart(const void* handle) { return (reinterpret_cast<uintptr_t>(handle) & kPart) != 0; }

bool FindDevice(const void* handle, int* device) {
  *device = static_cast<int>(reinterpret_cast<uintptr_t>(handle) & ~kPart) - 1;
  return *device >= 0 && *device < GetProfile().devices;
}

int Check(const void* handle, const void* out, int* device) {
  if (g_references.load() == 0) return kUninitialized;
  return out != nullptr && FindDevice(handle, device) ? kSuccess : kInvalidArgument;
}

// A GPU without memory of its own has no figures for it (GB10).
int CheckMemory(const void* handle, const void* out, int* device) {
  const int result = Check(handle, out, device);
  return result == kSuccess && GetProfile().integrated ? kNotSupported : result;
}

int GiveHandle(int device, void** out) {
  if (g_references.load() == 0) return kUninitialized;
  if (out == nullptr || device < 0 || device >= GetProfile().devices) return kInvalidArgument;
  *out = reinterpret_cast<void*>(static_cast<uintptr_t>(device) + 1);
  return kSuccess;
}

uint64_t UsedByThisProcess(int device) {
  void* cuda = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  if (cuda == nullptr) return 0;
  const auto used = reinterpret_cast<uint64_t (*)(int)>(dlsym(cuda, "gpuroom_sim_machine_used"));
  const uint64_t bytes = used != nullptr ? used(device) : 0;
  dlclose(cuda);
  return bytes;
}

// A process that is alone on its machine is taken to have a context, whether or not it has.
uint64_t UsedOf(int device) {
  const char* file = std::getenv("GPUROOM_SIM_MACHINE");
  if (file == nullptr || *file == '\0') return UsedByThisProcess(device) + GetProfile().ContextOverhead();
  Machine machine;
  return machine.Join(file, Machine::Role::kOnlooker) ? machine.Others(device) : 0;
}

Memory MemoryOf(int device) {
  const uint64_t total = GetProfile().hbm;
  const uint64_t used = std::min(total, UsedOf(device));
  return {total, total - used, used};
}

std::string BusId(int device) {
  char text[32];
  std::snprintf(text, sizeof text, "00000000:%02X:00.0", PciBusOf(device));
  return text;
}

std::string PartUuidText(int device) { return "MIG-" + UuidText(device).substr(4); }

int CopyText(const std::string& from, char* to, unsigned length) {
  if (from.size() + 1 > length) return kInsufficientSize;
  std::memcpy(to, from.c_str(), from.size() + 1);
  return kSuccess;
}

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;
#define NVML_API extern "C" __attribute__((visibility("default"))) int

NVML_API nvmlInit_v2() {
  ++sim::g_references;
  return sim::kSuccess;
}
NVML_API nvmlInit() { return nvmlInit_v2(); }
NVML_API nvmlInitWithFlags(unsigned) { return nvmlInit_v2(); }

NVML_API nvmlShutdown() {
  if (sim::g_references.load() == 0) return sim::kUninitialized;
  --sim::g_references;
  return sim::kSuccess;
}

extern "C" __attribute__((visibility("default"))) const char* nvmlErrorString(int result) {
  switch (result) {
    case sim::kSuccess: return "Success";
    case sim::kUninitialized: return "Uninitialized";
    case sim::kInvalidArgument: return "Invalid Argument";
    case sim::kNotSupported: return "Not Supported";
    case sim::kNotFound: return "Not Found";
    case sim::kInsufficientSize: return "Insufficient Size";
    default: return "Unknown Error";
  }
}

NVML_API nvmlSystemGetDriverVersion(char* text, unsigned length) {
  if (text == nullptr) return sim::kInvalidArgument;
  return sim::CopyText("580.159.04", text, length);
}

NVML_API nvmlSystemGetCudaDriverVersion_v2(int* version) {
  if (version == nullptr) return sim::kInvalidArgument;
  *version = sim::GetProfile().driver;
  return sim::kSuccess;
}
NVML_API nvmlSystemGetCudaDriverVersion(int* version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

NVML_API nvmlDeviceGetCount_v2(unsigned* count) {
  if (sim::g_references.load() == 0) return sim::kUninitialized;
  if (count == nullptr) return sim::kInvalidArgument;
  *count = static_cast<unsigned>(sim::GetProfile().devices);
  return sim::kSuccess;
}
NVML_API nvmlDeviceGetCount(unsigned* count) { return nvmlDeviceGetCount_v2(count); }

NVML_API nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  return sim::GiveHandle(static_cast<int>(index), handle);
}
NVML_API nvmlDeviceGetHandleByIndex(unsigned index, void** handle) {
  return nvmlDeviceGetHandleByIndex_v2(index, handle);
}

NVML_API nvmlDeviceGetHandleByUUID(const char* uuid, void** handle) {
  if (uuid == nullptr) return sim::kInvalidArgument;
  for (int device = 0; device < sim::GetProfile().devices; ++device) {
    if (sim::UuidText(device) == uuid) return sim::GiveHandle(device, handle);
    if (sim::PartUuidText(device) != uuid) continue;
    const int result = sim::GiveHandle(device, handle);
    if (result == sim::kSuccess) *handle = static_cast<char*>(*handle) + sim::kPart;
    return result;
  }
  return sim::kNotFound;
}

NVML_API nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, void** handle) {
  unsigned domain = 0;
  unsigned bus = 0;
  if (bus_id == nullptr || std::sscanf(bus_id, "%x:%x", &domain, &bus) != 2) return sim::kInvalidArgument;
  const int device = sim::NumberOnBus(domain, bus);
  if (device < 0 || device >= sim::GetProfile().devices) return sim::kNotFound;
  return sim::GiveHandle(device, handle);
}
NVML_API nvmlDeviceGetHandleByPciBusId(const char* bus_id, void** handle) {
  return nvmlDeviceGetHandleByPciBusId_v2(bus_id, handle);
}

NVML_API nvmlDeviceGetIndex(void* handle, unsigned* index) {
  int device = 0;
  const int result = sim::Check(handle, index, &device);
  if (result == sim::kSuccess) *index = static_cast<unsigned>(device);
  return result;
}

NVML_API nvmlDeviceGetName(void* handle, char* name, unsigned length) {
  int device = 0;
  const int result = sim::Check(handle, name, &device);
  return result == sim::kSuccess ? sim::CopyText(sim::GetProfile().name, name, length) : result;
}

NVML_API nvmlDeviceGetUUID(void* handle, char* uuid, unsigned length) {
  int device = 0;
  const int result = sim::Check(handle, uuid, &device);
  if (result != sim::kSuccess) return result;
  return sim::CopyText(sim::IsPart(handle) ? sim::PartUuidText(device) : sim::UuidText(device), uuid, length);
}

NVML_API nvmlDeviceGetMemoryInfo(void* handle, sim::Memory* memory) {
  int device = 0;
  const int result = sim::CheckMemory(handle, memory, &device);
  if (result == sim::kSuccess) *memory = sim::MemoryOf(device);
  return result;
}

// Here "used" leaves out what the driver reserved, and the version says which form the caller has.
NVML_API nvmlDeviceGetMemoryInfo_v2(void* handle, sim::MemoryV2* memory) {
  int device = 0;
  const int result = sim::CheckMemory(handle, memory, &device);
  if (result != sim::kSuccess) return result;
  if (memory->version != sim::kMemoryV2) return sim::kInvalidArgument;
  const sim::Memory figures = sim::MemoryOf(device);
  const uint64_t reserved = sim::GetProfile().ContextOverhead();
  *memory = {sim::kMemoryV2, figures.total, reserved, figures.free, figures.used - reserved};
  return sim::kSuccess;
}

NVML_API nvmlDeviceGetPciInfo_v3(void* handle, sim::PciInfo* info) {
  int device = 0;
  const int result = sim::Check(handle, info, &device);
  if (result != sim::kSuccess) return result;
  std::memset(info, 0, sizeof *info);
  info->bus = sim::PciBusOf(device);
  const std::string bus_id = sim::BusId(device);
  std::snprintf(info->bus_id, sizeof info->bus_id, "%s", bus_id.c_str());
  std::snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "%s", bus_id.c_str() + 4);
  return sim::kSuccess;
}

// Of one capability, by number; the answer 0 is OK, 5 NOT_SUPPORTED.
NVML_API nvmlDeviceGetP2PStatus(void* handle, void* other, int, int* status) {
  int device = 0;
  int peer = 0;
  const int result = sim::Check(handle, status, &device);
  if (result != sim::kSuccess) return result;
  if (!sim::FindDevice(other, &peer) || device == peer) return sim::kInvalidArgument;
  *status = sim::GetProfile().peer == sim::PeerLink::kNone ? 5 : 0;
  return sim::kSuccess;
}

NVML_API nvmlDeviceGetC2cModeInfoV(void* handle, unsigned* enabled) {
  int device = 0;
  const int result = sim::Check(handle, enabled, &device);
  if (result == sim::kSuccess) *enabled = sim::GetProfile().coherent;
  return result;
}

#define NVML_NUMBER(function, member)                                                      \
  NVML_API function(void* handle, unsigned* value) {                                       \
    int device = 0;                                                                        \
    const int result = sim::Check(handle, value, &device);                                 \
    if (result == sim::kSuccess) *value = static_cast<unsigned>(sim::GetProfile().member); \
    return result;                                                                         \
  }
NVML_NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, pcie_generation)
NVML_NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, pcie_generation)
NVML_NUMBER(nvmlDeviceGetCurrPcieLinkWidth, pcie_width)
NVML_NUMBER(nvmlDeviceGetMaxPcieLinkWidth, pcie_width)
