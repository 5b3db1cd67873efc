#include "runtime/runtime.h"

#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>

#include "base/env.h"
#include "base/log.h"
#include "runtime/real_dlsym.h"
#include "runtime/report.h"
#include "topology/host_budget.h"
#include "topology/link_estimate.h"

namespace headroom {
namespace {

std::atomic<Runtime*> g_runtime{nullptr};
std::atomic<bool> g_off{false};  // pass everything through, for good
std::mutex g_create_mutex;       // plain: fork takes it in one handler and leaves it in another
Ledger* g_ledger = nullptr;

// CUDA does not survive fork: a child of a process that used a device passes its
// calls through. A child of one that only asked around (vLLM's parent asks NVML
// before it forks its workers) starts afresh; what it inherits is left alone.
void BeforeFork() { g_create_mutex.lock(); }
void AfterForkInParent() { g_create_mutex.unlock(); }
void AfterForkInChild() {
  if (g_ledger != nullptr) g_ledger->ForgetAfterFork();
  g_ledger = nullptr;
  Gate::ForgetAfterFork();
  Runtime* inherited = g_runtime.exchange(nullptr);
  if (inherited != nullptr) inherited->ForgetAheadAfterFork();
  if (inherited != nullptr && inherited->UsedDevices()) g_off.store(true);
  g_create_mutex.unlock();
}

Ledger* OpenLedger(uint64_t host_limit) {
  if (host_limit == 0) return nullptr;
  Result<std::unique_ptr<Ledger>> ledger = Ledger::OpenDefault();
  if (ledger.ok()) return g_ledger = ledger->release();
  Log(LogLevel::kWarn, "%s; --host-limit holds for this process alone", ledger.status().what());
  return nullptr;
}

uint64_t RealTotal(const Driver& driver, CUdevice device) {
  size_t bytes = 0;
  return driver.DeviceTotalMem(&bytes, device) == CUDA_SUCCESS ? bytes : 0;
}

uint64_t HbmLimit(const Driver& driver, CUdevice device, const Options& options) {
  // A limit beyond what is there is none: the driver's own answers then hold.
  return options.hbm_limit < RealTotal(driver, device) ? options.hbm_limit : Budget::kUnlimited;
}

ManagedMachine MachineOf(const Driver& driver, const DeviceTier& tier, const HostTier& host) {
  int coherent = 0;
  driver.DeviceGetAttribute(&coherent, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
                            tier.device());
  const uint64_t hbm = tier.budget().limited() ? tier.budget().limit() : RealTotal(driver, tier.device());
  return {hbm, host.limit(), coherent != 0};
}

}  // namespace

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
      host_limit(host_tier.limit()),
      backend(options.backend) {
  driver.DeviceGetUuid(&uuid, own_tier.device());
}

uint64_t DeviceState::VisibleTotal(uint64_t driver_total) const {
  if (backend == Backend::kManaged) return managed.cap().bytes;
  return (tier.budget().limited() ? tier.budget().limit() : driver_total) + source.PeerLimit() + host_limit;
}

uint64_t DeviceState::VisibleFree(uint64_t driver_free) const {
  if (backend == Backend::kManaged) return managed.FreeBytes(driver_free);
  return std::min(tier.budget().free(), driver_free) + source.PeerFree() + host.Free();
}

Runtime::Runtime(const Driver& bound, const Options& read)
    : driver(bound),
      options(read),
      in_front(StandsInFront()),
      imports(driver),
      retired(driver),
      captures(driver),
      contexts(driver),
      share_(read.host_limit, read.host_keep, OpenLedger(read.host_limit)),
      no_host_(driver, 0, no_share_) {}

Runtime* Runtime::Existing() { return g_runtime.load(std::memory_order_acquire); }

Runtime* Runtime::Get() {
  if (g_off.load(std::memory_order_relaxed)) return nullptr;
  Runtime* runtime = Existing();
  return runtime != nullptr ? runtime : Create(false);
}

Runtime* Runtime::Require() {
  if (g_off.load(std::memory_order_relaxed)) return nullptr;
  Runtime* runtime = Existing();
  return runtime != nullptr ? runtime : Create(true);
}

Runtime* Runtime::Create(bool required) {
  std::lock_guard lock(g_create_mutex);
  if (Existing() != nullptr || g_off.load()) return Existing();
  if (!required && !StandsInFront()) return nullptr;  // it may be required yet
  Options options = ReadOptions();
  const bool idle = options.hbm_limit == Budget::kUnlimited && options.host_limit == 0 &&
                    options.backend == Backend::kTiers && !options.rules.AskForManaged() && !required;
  if (!StandsInFront() && std::getenv(env::kHostLimit) == nullptr)
    options.host_limit = AutoHostBudget().bytes;
  const Result<Driver> driver =
      idle ? Result<Driver>(Status(Code::kNotFound, "no limits are set")) : BindDriver(RealDlsym());
  if (!driver.ok()) {
    if (!idle) Log(LogLevel::kWarn, "%s; the program runs without headroom", driver.status().what());
    g_off.store(true);
    return nullptr;
  }
  static const int registered = pthread_atfork(BeforeFork, AfterForkInParent, AfterForkInChild);
  (void)registered;
  Runtime* runtime = new (std::nothrow) Runtime(*driver, options);
  g_runtime.store(runtime, std::memory_order_release);
  if (runtime == nullptr) g_off.store(true);
  return runtime;
}

DeviceState* Runtime::Device(CUdevice device) {
  if (device < 0 || device >= kMaxDevices) return nullptr;
  DeviceState* state = ExistingDevice(device);
  return state != nullptr ? state : MakeDevice(device);
}

bool Runtime::UsedDevices() const {
  return std::any_of(devices_.begin(), devices_.end(), [](const auto& slot) {
    const DeviceState* device = slot.load();
    return device != nullptr && device->tier.used();
  });
}

bool Runtime::FindRange(CUdeviceptr address, RangeInfo* range, bool* imported) const {
  *imported = false;
  if (ranges.Find(address, range)) return true;
  *imported = imports.Find(address, range);
  return *imported;
}

void Runtime::ForgetDevice(CUdevice device) {
  DeviceState* state = ExistingDevice(device);
  if (state == nullptr) return;
  state->tier.ReleaseSmall(pointers.TakeAll(device));
  for (std::unique_ptr<Range>& range : ranges.TakeAll(device)) state->builder.Discard(std::move(range));
  for (const ManagedBlock& block : managed.TakeAll(device)) state->managed.Forget(block);
  for (Import& import : imports.TakeAll(device)) imports.Discard(std::move(import));
}

DeviceState* Runtime::CurrentDevice() {
  CUdevice device = 0;
  if (driver.CtxGetDevice(&device) != CUDA_SUCCESS) return nullptr;
  NoteContext();
  DeviceState* state = Device(device);
  if (state != nullptr && !state->tier.used()) ConnectPeers(*state);
  return state;
}

void Runtime::NoteContext() {
  __attribute__((tls_model("initial-exec"))) static thread_local CUcontext t_noted = nullptr;
  CUcontext context = nullptr;
  if (driver.CtxGetCurrent(&context) != CUDA_SUCCESS || context == t_noted) return;
  contexts.Add(context);
  t_noted = context;
}

void Runtime::StartAhead(HostTier& host) {
  if (options.host_ahead == 0 || &host == &no_host_) return;
  for (const auto& [tier, ahead] : aheads_) {
    if (tier == &host) return;
  }
  // The driver registered what it does at exit when it was initialised; this runs before.
  static const int registered = std::atexit([] {
    Runtime* runtime = Existing();
    if (runtime != nullptr) runtime->StopAhead();
  });
  (void)registered;
  aheads_.emplace_back(&host, std::make_unique<HostAhead>(host, options.host_ahead));
}

void Runtime::StopAhead() {
  std::vector<std::pair<HostTier*, std::unique_ptr<HostAhead>>> aheads;
  MutexLock lock(mutex_);
  aheads.swap(aheads_);
  for (auto& [tier, ahead] : aheads) {
    ahead.reset();
    tier->Trim();
  }
}

void Runtime::ForgetAheadAfterFork() HEADROOM_TSA(no_thread_safety_analysis) {
  for (const auto& [tier, ahead] : aheads_) ahead->ForgetAfterFork();
}

void Runtime::ConnectPeers(DeviceState& fresh) {
  MutexLock lock(mutex_);
  if (fresh.tier.used()) return;
  StartAhead(fresh.host);
  for (const auto& slot : devices_) {
    DeviceState* other = slot.load(std::memory_order_acquire);
    if (other == nullptr || !other->tier.used()) continue;
    LetAccess(*other, fresh);
    LetAccess(fresh, *other);
  }
  fresh.tier.MarkUsed();
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
  HostTier& host = integrated != 0 ? no_host_ : *Host(std::max(node, 0));
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
    tier = std::make_unique<DeviceTier>(driver, device, HbmLimit(driver, device, options), options.reserve);
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
  int can = 0;
  DeviceTier* owner = loan.ordinal == self ? nullptr : TierOf(loan.ordinal);
  if (owner == nullptr) return;
  if (driver.DeviceCanAccessPeer(&can, self, loan.ordinal) != CUDA_SUCCESS || can == 0) return;
  // Without a size or a limit of its own it keeps an eighth: others may use it, too.
  const uint64_t most = RealTotal(driver, loan.ordinal) / 8 * 7;
  const uint64_t limit = std::min({loan.bytes != 0 ? loan.bytes : most, owner->budget().limit(), most});
  loans_.push_back(std::make_unique<PeerTier>(*owner, limit, while_idle));
  device.source.AddPeer(loans_.back().get());
}

HostTier* Runtime::Host(int numa_node) {
  for (const auto& host : hosts_) {
    if (host->numa_node() == numa_node) return host.get();
  }
  hosts_.push_back(std::make_unique<HostTier>(driver, numa_node, share_));
  return hosts_.back().get();
}

Entry::Entry(bool required) {
  if (t_depth > 0) return;
  ++t_depth;  // making the runtime calls the driver, too
  runtime_ = required ? Runtime::Require() : Runtime::Get();
  if (runtime_ == nullptr) {
    --t_depth;
    return;
  }
  Gate::Enter();
  if (runtime_->options.report || runtime_->options.stats_file != nullptr) {
    start_ = NowNanoseconds();
  }
}

Entry::~Entry() {
  if (runtime_ == nullptr) return;
  Gate::Leave();
  --t_depth;
  if (start_ != 0) runtime_->nanoseconds.fetch_add(NowNanoseconds() - start_, std::memory_order_relaxed);
}

namespace {

// The report comes when the program's own destructors have run or are about to;
// the state stays usable for those that follow.
__attribute__((destructor)) void ReportAtExit() {
  const Runtime* runtime = Runtime::Existing();
  if (runtime != nullptr && !g_off.load()) WriteReport(*runtime);
}

}  // namespace
}  // namespace headroom
