#include "shim/nvml.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "driver/uuid.h"
#include "runtime/runtime.h"
#include "shim/real.h"
#include "topology/visible_devices.h"

namespace gpuroom {
namespace {

// The few declarations of nvml.h that are needed; that header is no part of the
// CUDA driver's. Layouts: NVML API reference, nvmlMemory_t and nvmlMemory_v2_t.
using NvmlDevice = struct NvmlDeviceOpaque*;
using NvmlResult = int;
constexpr NvmlResult kNvmlSuccess = 0;
constexpr NvmlResult kNvmlFunctionNotFound = 13;
constexpr NvmlResult kNvmlUnknown = 999;

struct NvmlMemory {
  unsigned long long total, free, used;  // bytes
};
struct NvmlMemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;  // bytes
};
static_assert(sizeof(NvmlMemory) == 24 && sizeof(NvmlMemoryV2) == 40);

template <typename Function>
Function RealNvml(const char* symbol) {
  return reinterpret_cast<Function>(NvmlSymbol(symbol));
}

struct Sizes {
  unsigned long long total, free;
};

// NVML's UUID of a GPU, "GPU-8a4f...", or of a part of one, "MIG-8a4f..."; "" where it says none.
std::string UuidOf(NvmlDevice device) {
  static const auto get = RealNvml<NvmlResult (*)(NvmlDevice, char*, unsigned)>("nvmlDeviceGetUUID");
  char text[96] = {};
  return get != nullptr && get(device, text, sizeof text) == kNvmlSuccess ? text : "";
}

// What follows the prefix is the CUDA driver's UUID.
bool SameUuid(const std::string& text, const CUuuid& uuid) {
  const bool prefixed = text.starts_with("GPU-") || text.starts_with("MIG-");
  return prefixed && text.compare(4, std::string::npos, FormatUuid(uuid), 4, std::string::npos) == 0;
}

// The device that NVML calls `device`; null where the driver is not initialised in this process, or has no
// such device.
const DeviceState* FindDevice(Runtime& rt, NvmlDevice device) {
  int count = 0;
  if (rt.driver.DeviceGetCount(&count) != CUDA_SUCCESS) return nullptr;
  const std::string text = UuidOf(device);
  for (int i = 0; i < count; ++i) {
    CUuuid uuid;
    if (rt.driver.DeviceGetUuid(&uuid, i) == CUDA_SUCCESS && SameUuid(text, uuid)) return rt.Device(i);
  }
  return nullptr;
}

// NVML's GPUs in the order in which CUDA would count them here.
std::vector<NvmlDevice> VisibleToCuda() {
  static const auto count_all = RealNvml<NvmlResult (*)(unsigned*)>("nvmlDeviceGetCount_v2");
  static const auto get = RealNvml<NvmlResult (*)(unsigned, NvmlDevice*)>("nvmlDeviceGetHandleByIndex_v2");
  unsigned count = 0;
  if (count_all == nullptr || get == nullptr || count_all(&count) != kNvmlSuccess) return {};
  std::vector<NvmlDevice> all;
  std::vector<std::string> uuids;
  for (unsigned i = 0; i < count; ++i) {
    NvmlDevice device = nullptr;
    if (get(i, &device) != kNvmlSuccess) return {};
    all.push_back(device);
    uuids.push_back(UuidOf(device));
  }
  std::vector<NvmlDevice> visible;
  for (const size_t index : VisibleDevices(std::getenv("CUDA_VISIBLE_DEVICES"), uuids))
    visible.push_back(all[index]);
  return visible;
}

bool Reaches(NvmlDevice from, NvmlDevice to) {
  constexpr int kRead = 0;  // NVML_P2P_CAPS_INDEX_READ; the answer 0 is NVML_P2P_STATUS_OK
  static const auto get =
      RealNvml<NvmlResult (*)(NvmlDevice, NvmlDevice, int, int*)>("nvmlDeviceGetP2PStatus");
  int status = 0;
  return get != nullptr && get(from, to, kRead, &status) == kNvmlSuccess && status == 0;
}

// Whether it reads the host's memory by the host's page tables (NVLink-C2C).
bool IsCoherent(NvmlDevice device) {
  static const auto get = RealNvml<NvmlResult (*)(NvmlDevice, unsigned*)>("nvmlDeviceGetC2cModeInfoV");
  unsigned enabled = 0;
  return get != nullptr && get(device, &enabled) == kNvmlSuccess && enabled != 0;
}

uint64_t TotalOf(NvmlDevice device) {
  static const auto get = RealNvml<NvmlResult (*)(NvmlDevice, NvmlMemory*)>("nvmlDeviceGetMemoryInfo");
  NvmlMemory memory{};
  return get != nullptr && get(device, &memory) == kNvmlSuccess ? memory.total : 0;
}

// What other GPUs will lend `device`, as Runtime::AddPeers sees to it.
Sizes PeersOf(const Runtime& rt, NvmlDevice device) {
  const PeerChoice& choice = rt.options.peers;
  if (choice.kind == PeerChoice::Kind::kNone) return {0, 0};
  const std::vector<NvmlDevice> visible = VisibleToCuda();
  std::vector<PeerLoan> loans = choice.list;
  for (int i = 0; choice.kind == PeerChoice::Kind::kAuto && i < static_cast<int>(visible.size()); ++i) {
    loans.push_back({i, 0});
  }
  Sizes sum{0, 0};
  const std::string own = UuidOf(device);
  for (const PeerLoan& loan : loans) {
    if (static_cast<size_t>(loan.ordinal) >= visible.size()) continue;
    const NvmlDevice peer = visible[static_cast<size_t>(loan.ordinal)];
    if (UuidOf(peer) == own || !Reaches(device, peer)) continue;
    const uint64_t total = TotalOf(peer);
    const uint64_t limit = rt.options.hbm_limit.Of(total);
    const uint64_t reserve = rt.options.ReserveOf(total);
    const uint64_t lent = LoanLimit(loan, total, limit);
    sum.total += lent;
    sum.free += std::min(lent, limit > reserve ? limit - reserve : 0);
  }
  return sum;
}

// What CUDA will say of a device of this process once it is initialised. It is not here, since a process that
// only asks NVML may fork others that use CUDA.
Sizes BeforeCuda(Runtime& rt, NvmlDevice device, Sizes real) {
  const uint64_t limit = rt.options.hbm_limit.Of(real.total);
  const uint64_t free = std::min<uint64_t>(limit, real.free);
  const uint64_t part = rt.HostPartOf(static_cast<int>(VisibleToCuda().size()));
  const uint64_t host_limit = part > 0 ? part : rt.options.host_limit;
  const uint64_t host = part > 0 ? part : rt.HostUnclaimed();
  if (rt.options.backend == Backend::kManaged) {
    const ManagedCap cap = CapOf(rt.options.managed, {limit, host_limit, IsCoherent(device)});
    return {cap.bytes, std::min<uint64_t>(cap.bytes, cap.only_free ? free : limit + host)};
  }
  const Sizes peers = PeersOf(rt, device);
  return {limit + peers.total + host_limit, free + peers.free + host};
}

Sizes Enlarge(Runtime& rt, NvmlDevice device, Sizes real) {
  const DeviceState* state = FindDevice(rt, device);
  if (state == nullptr) return BeforeCuda(rt, device, real);
  return {state->VisibleTotal(real.total), rt.ToldFree(*state, real.free)};
}

}  // namespace
}  // namespace gpuroom

using namespace gpuroom;

extern "C" {

NvmlResult nvmlDeviceGetMemoryInfo(NvmlDevice device, NvmlMemory* memory) try {
  static const auto real = RealNvml<NvmlResult (*)(NvmlDevice, NvmlMemory*)>("nvmlDeviceGetMemoryInfo");
  if (real == nullptr) return kNvmlFunctionNotFound;
  const NvmlResult result = real(device, memory);
  Entry rt;
  if (!rt || result != kNvmlSuccess) return result;
  const Sizes sizes = Enlarge(*rt, device, {memory->total, memory->free});
  *memory = {sizes.total, sizes.free, sizes.total - sizes.free};
  return result;
} catch (const std::exception&) {
  return kNvmlUnknown;
}

NvmlResult nvmlDeviceGetMemoryInfo_v2(NvmlDevice device, NvmlMemoryV2* memory) try {
  static const auto real = RealNvml<NvmlResult (*)(NvmlDevice, NvmlMemoryV2*)>("nvmlDeviceGetMemoryInfo_v2");
  if (real == nullptr) return kNvmlFunctionNotFound;
  const NvmlResult result = real(device, memory);
  Entry rt;
  if (!rt || result != kNvmlSuccess) return result;
  const Sizes sizes = Enlarge(*rt, device, {memory->total, memory->free});
  // What the driver reserves for itself lies outside a limited device, and outside a cap on managed memory.
  if (rt->options.hbm_limit.Of(memory->total) < memory->total) memory->reserved = 0;
  memory->reserved = std::min(memory->reserved, sizes.total - sizes.free);
  memory->total = sizes.total;
  memory->free = sizes.free;
  memory->used = sizes.total - sizes.free - memory->reserved;
  return result;
} catch (const std::exception&) {
  return kNvmlUnknown;
}

}  // extern "C"

namespace gpuroom {

void* NvmlHook(const char* symbol) {
  if (std::strcmp(symbol, "nvmlDeviceGetMemoryInfo") == 0)
    return reinterpret_cast<void*>(nvmlDeviceGetMemoryInfo);
  if (std::strcmp(symbol, "nvmlDeviceGetMemoryInfo_v2") == 0) {
    return reinterpret_cast<void*>(nvmlDeviceGetMemoryInfo_v2);
  }
  return nullptr;
}

}  // namespace gpuroom
