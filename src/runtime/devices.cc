// The devices of a Runtime: their tiers, peers and hosts.
#include <algorithm>
#include <cstring>
#include <string>

#include "base/log.h"
#include "base/trace.h"
#include "runtime/report.h"
#include "runtime/runtime.h"
#include "topology/host_model.h"
#include "topology/link_estimate.h"

namespace gpuroom {
namespace {

uint64_t RealTotal(const Driver& driver, CUdevice device) {
  size_t bytes = 0;
  return driver.DeviceTotalMem(&bytes, device) == CUDA_SUCCESS ? bytes : 0;
}

// What programs that share a GPU may use of it together. Their contexts and graphs, of which nobody has
// counted the bytes, need some as well.
constexpr uint64_t ForSharing(uint64_t total) { return total - total / 32; }

uint64_t HbmLimit(const Driver& driver, CUdevice device, const Options& options) {
  const uint64_t total = RealTotal(driver, device);
  if (!options.share_group.empty()) return std::min(options.hbm_limit.Of(total), ForSharing(total));
  // A limit beyond what is there is none: the driver's own answers then hold.
  const uint64_t limit = options.hbm_limit.Of(total);
  return limit < total ? limit : Budget::kUnlimited;
}

uint64_t MemoryOf(const Driver& driver, const DeviceTier& tier) {
  return tier.budget().limited() ? tier.budget().limit() : RealTotal(driver, tier.device());
}

ManagedMachine MachineOf(const Driver& driver, const DeviceTier& tier, const HostTier& host) {
  int coherent = 0;
  driver.DeviceGetAttribute(&coherent, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
                            tier.device());
  return {MemoryOf(driver, tier), host.limit(), coherent != 0};
}

void StartTrace(const Runtime& rt) {
  if (rt.options.trace.empty()) return;
  const std::string path = rt.options.trace + "." + std::to_string(rt.pid);
  const Status status = Trace::Start(path.c_str());
  if (!status.ok())
    Log(LogLevel::kWarn, "%s: %s: %s", path.c_str(), status.what(), std::strerror(status.native()));
}

}  // namespace

uint64_t LoanLimit(const PeerLoan& loan, uint64_t total, uint64_t limit) {
  // Without a size or a limit of its own it keeps an eighth: others may use it, too.
  const uint64_t most = total / 8 * 7;
  return std::min({loan.bytes != 0 ? loan.bytes : most, limit, most});
}

void AllocationCounts::Count(uint64_t bytes, bool is_spilled) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (is_spilled) spilled.fetch_add(1, std::memory_order_relaxed);
  uint64_t seen = largest.load(std::memory_order_relaxed);
  while (bytes > seen && !largest.compare_exchange_weak(seen, bytes, std::memory_order_relaxed)) {
  }
}

DeviceState::DeviceState(const Driver& driver, DeviceTier& own_tier, HostTier& host_tier,
                         const LinkSpeeds& speeds, const Options& options)
    : tier(own_tier),
      host(host_tier),
      source(driver, tier, host, speeds),
      builder(driver, source, own_tier.device()),
      managed(driver, tier, host, options.managed, MachineOf(driver, tier, host)),
      host_limit(host_tier.chunk_limit()),
      hbm(MemoryOf(driver, tier)),
      resident_below(options.ResidentBelow(RealTotal(driver, own_tier.device()))),
      backend(options.backend) {
  driver.DeviceGetUuid(&uuid, own_tier.device());
}

uint64_t DeviceState::VisibleTotal(uint64_t driver_total) const {
  if (backend == Backend::kManaged) return managed.cap().bytes;
  return (tier.budget().limited() ? tier.budget().limit() : driver_total) + source.PeerLimit() + host_limit;
}

uint64_t DeviceState::VisibleFree(uint64_t driver_free) const {
  if (backend == Backend::kManaged) return managed.FreeBytes(driver_free);
  // What others have now is this program's when it needs it.
  const uint64_t free =
      tier.granted() ? tier.budget().unused() : std::min(tier.budget().unused(), driver_free);
  return free + source.PeerFree() + host.Free();
}

uint64_t Runtime::ToldFree(const DeviceState& device, uint64_t driver_free) {
  const uint64_t kept = options.kept_is_free ? memory.IndexOf(device.tier.device()).backup_bytes() : 0;
  return device.VisibleFree(driver_free) + kept;
}

void Runtime::ConnectPeers(DeviceState& fresh) {
  MutexLock lock(mutex_);
  if (fresh.tier.used()) return;
  WatchExit();
  StartAhead(fresh);
  if (!UsedDevices()) {
    StartReportInterval(*this);
    StartTrace(*this);
  }
  for (const auto& slot : devices_) {
    DeviceState* other = slot.load(std::memory_order_acquire);
    if (other == nullptr || !other->tier.used()) continue;
    LetAccess(*other, fresh);
    LetAccess(fresh, *other);
  }
  fresh.tier.MarkUsed();
  fresh.host.Promise();
}

void Runtime::LetAccess(DeviceState& owner, const DeviceState& accessor) {
  int can = 0;
  driver.DeviceCanAccessPeer(&can, accessor.tier.device(), owner.tier.device());
  if (can == 0) return;
  const auto allow = [&](const std::vector<Range*>& existing) {
    const Status status = owner.builder.AllowPeer(accessor.tier.device(), existing);
    if (!status.ok())
      Log(LogLevel::kInfo, "GPUs may not copy each other's spilled memory: %s", status.what());
  };
  ranges.WithRangesOf(owner.tier.device(), allow);
  imports.ranges().WithRangesOf(owner.tier.device(), allow);
}

DeviceState* Runtime::MakeDevice(CUdevice device) {
  MutexLock lock(mutex_);
  if (DeviceState* state = ExistingDevice(device)) return state;
  int node = -1;
  if (driver.DeviceGetAttribute(&node, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, device) != CUDA_SUCCESS)
    return nullptr;
  // An integrated GPU's own memory is the host's: a host tier would count it twice.
  int integrated = 0;
  driver.DeviceGetAttribute(&integrated, CU_DEVICE_ATTRIBUTE_INTEGRATED, device);
  // A machine without NUMA reports -1; its memory is node 0.
  HostTier& host = integrated != 0 ? no_host_ : *HostFor(std::max(node, 0));
  const bool measured = options.link_speeds.device != 0;
  const LinkSpeeds speeds = measured ? options.link_speeds : EstimateLinkSpeeds(driver, device);
  DeviceTier* own = TierOf(device);
  if (own == nullptr) return nullptr;
  DeviceState* state = new DeviceState(driver, *own, host, speeds, options);
  AddPeers(*state);
  devices_[device].store(state, std::memory_order_release);
  return state;
}

DeviceTier* Runtime::TierOf(CUdevice device) {
  int count = 0;
  if (driver.DeviceGetCount(&count) != CUDA_SUCCESS || device < 0 || device >= std::min(count, kMaxDevices)) {
    return nullptr;
  }
  std::unique_ptr<DeviceTier>& tier = tiers_[device];
  if (tier == nullptr) {
    const uint64_t reserve = options.ReserveOf(RealTotal(driver, device));
    tier = std::make_unique<DeviceTier>(driver, device, HbmLimit(driver, device, options), reserve,
                                        share_.ledger);
    if (hbm_waits.on()) tier->SetGrant(0);
  }
  return tier.get();
}

void Runtime::AddPeers(DeviceState& device) {
  if (options.peers.kind == PeerChoice::Kind::kNone) return;
  for (const PeerLoan& loan : options.peers.list) AddPeer(device, loan, false);
  if (options.peers.kind != PeerChoice::Kind::kAuto) return;
  for (int ordinal = 0; ordinal < kMaxDevices; ++ordinal) AddPeer(device, {ordinal, 0}, true);
}

void Runtime::AddPeer(DeviceState& device, const PeerLoan& loan, bool while_idle) {
  const CUdevice self = device.tier.device();
  if (loan.ordinal == self) return;
  DeviceTier* owner = TierOf(loan.ordinal);
  int can = 0;
  if (owner != nullptr) driver.DeviceCanAccessPeer(&can, self, loan.ordinal);
  if (can == 0) {
    if (while_idle) return;  // one of those that `auto` tries: nobody named it, so nobody misses it
    const char* why = owner == nullptr ? "is not there" : "cannot be reached";
    Log(LogLevel::kWarn, "peers: GPU %d %s, so it lends GPU %d no memory", loan.ordinal, why, self);
    return;
  }
  const uint64_t limit = LoanLimit(loan, RealTotal(driver, loan.ordinal), owner->budget().limit());
  loans_.push_back(std::make_unique<PeerTier>(*owner, limit, while_idle));
  device.source.AddPeer(loans_.back().get());
}

HostTier* Runtime::HostFor(int numa_node) {
  int gpus = 0;
  driver.DeviceGetCount(&gpus);
  const uint64_t part = HostPartOf(gpus);
  if (part > 0) {
    const uint64_t keep = std::min(options.host_keep, part);
    parts_.push_back(std::make_unique<HostShare>(part, keep, share_.ledger, options.host_limit));
    return AddHost(numa_node, *parts_.back());
  }
  for (const auto& host : hosts_) {
    if (host->home_node() == numa_node) return host.get();
  }
  return AddHost(numa_node, share_);
}

HostTier* Runtime::AddHost(int numa_node, HostShare& share) {
  hosts_.push_back(std::make_unique<HostTier>(driver, numa_node, share));
  hosts_.back()->FindPlace([numa_node] { return NearestNodes(numa_node); });
  return hosts_.back().get();
}

}  // namespace gpuroom
