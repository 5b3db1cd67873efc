#include "runtime/runtime.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <system_error>

#include "base/env.h"
#include "base/log.h"
#include "base/trace.h"
#include "runtime/process_end.h"
#include "runtime/real_dlsym.h"
#include "runtime/unserved.h"
#include "topology/host_budget.h"

namespace gpuroom {
namespace {

std::atomic<Runtime*> g_runtime{nullptr};
std::atomic<bool> g_off{false};  // pass everything through, for good
std::mutex g_create_mutex;       // plain: fork takes it in one handler and leaves it in another
Ledger* g_ledger = nullptr;

// CUDA does not survive fork: a child of a process that used a device passes its
// calls through. A child of one that only asked around (vLLM's parent asks NVML
// before it forks its workers) starts afresh; what it inherits is left alone.
void LockCreation() { g_create_mutex.lock(); }
void UnlockCreation() { g_create_mutex.unlock(); }
void ForgetInChild() {
  if (g_ledger != nullptr) g_ledger->ForgetAfterFork();
  g_ledger = nullptr;
  Gate::ForgetAfterFork();
  Trace::ForgetAfterFork();
  Runtime* inherited = g_runtime.exchange(nullptr);
  if (inherited != nullptr && inherited->UsedDevices()) g_off.store(true);
  g_create_mutex.unlock();
}

Ledger* OpenLedger(const Options& options) {
  if (options.host_limit == 0 && !options.hbm_limit.limited()) return nullptr;
  Result<std::unique_ptr<Ledger>> ledger = Ledger::OpenDefault();
  if (ledger.ok()) return g_ledger = ledger->release();
  Log(LogLevel::kWarn, "%s; limits hold for this process alone, and what others use is not seen",
      ledger.status().what());
  return nullptr;
}

}  // namespace

Runtime::Runtime(const Driver& bound, const Options& read)
    : driver(bound),
      options(read),
      pid(getpid()),
      in_front(StandsInFront()),
      imports(driver, captures, memory),
      retired(driver),
      captures(driver),
      contexts(driver),
      pools(driver),
      share_(read.host_limit, read.host_keep, OpenLedger(read)),
      no_host_(driver, 0, no_share_) {
  if (in_front && !options.share_group.empty()) hbm_waits.TurnOn();
}

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
  const bool idle = !options.hbm_limit.limited() && options.host_limit == 0 &&
                    options.backend == Backend::kTiers && options.share_group.empty() &&
                    !options.rules.AskForManaged() && !required;
  if (!StandsInFront() && env::Find(env::kHostLimit) == nullptr) options.host_limit = AutoHostBudget().bytes;
  const Result<Driver> driver =
      idle ? Result<Driver>(Status(Code::kNotFound, "no limits are set")) : BindDriver(RealDlsym());
  if (!driver.ok()) {
    if (!idle) Log(LogLevel::kWarn, "%s; the program runs without gpuroom", driver.status().what());
    g_off.store(true);
    return nullptr;
  }
  static const int registered = pthread_atfork(LockCreation, UnlockCreation, ForgetInChild);
  (void)registered;
  WatchQuickExit();
  Runtime* runtime = new (std::nothrow) Runtime(*driver, options);
  g_runtime.store(runtime, std::memory_order_release);
  if (runtime == nullptr) g_off.store(true);
  if (runtime != nullptr) LogUnserved();
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

bool Runtime::FindRange(CUdeviceptr address, RangeInfo* range, bool* imported) {
  using Kind = AddressMap::Kind;
  if (!memory.MayHold(Kind::kRange, address) && !memory.MayHold(Kind::kImport, address)) return false;
  const std::shared_lock lock(memory.mutex());
  const AddressMap::Place place = memory.Holding(address);
  if (place == memory.end() || place->second.range == nullptr) return false;
  *range = place->second.range->Info();
  *imported = place->second.kind == Kind::kImport;
  return !place->second.placed->shared || small_blocks.Narrow(address, range);
}

bool Runtime::IsAsleep(CUdeviceptr address) {
  if (memory.totals().asleep.load(std::memory_order_relaxed) == 0) return false;
  const std::shared_lock lock(memory.mutex());
  const Placed* placed = memory.PlacedAt(address).first;
  return placed != nullptr && !placed->awake();
}

void Runtime::EndHoldIfAwake() {
  // Nothing falls asleep meanwhile: the caller is inside the gate.
  if (Gate::hold() == Hold::kNone) return;
  if (memory.totals().asleep.load() == 0) Gate::EndHold();
}

void Runtime::ForgetDevice(CUdevice device) {
  DeviceState* state = ExistingDevice(device);
  if (state == nullptr) return;
  state->tier.ReleaseSmall(pointers.TakeAll(device));
  for (std::unique_ptr<Range>& range : ranges.TakeAll(device)) state->builder.Discard(std::move(range));
  small_blocks.Forget(device);
  for (const ManagedBlock& block : managed.TakeAll(device)) state->managed.Forget(block);
  for (Import& import : imports.TakeAll(device)) imports.Discard(std::move(import));
  EndHoldIfAwake();
}

void Runtime::ForgetContext(CUcontext context, CUdevice device) {
  ForgetWork(context);
  DeviceState* state = device >= 0 && device < kMaxDevices ? ExistingDevice(device) : nullptr;
  if (state == nullptr) return;
  state->tier.ReleaseSmall(pointers.TakeAll(context));
  for (std::unique_ptr<Range>& range : ranges.TakeAll(context)) state->builder.Discard(std::move(range));
  small_blocks.Forget(context);
  for (const ManagedBlock& block : managed.TakeAll(context)) state->managed.Forget(block);
  EndHoldIfAwake();
}

void Runtime::ForgetWork(CUcontext context) {
  contexts.Remove(context);
  captures.ForgetContext(context);
  retired.ForgetContext(context);
}

__attribute__((weak)) void NoticeFirstUse() {}

// With several GPUs the device is asked for each time: contexts end of which we do not hear, such as green
// ones, and their handles may then be those of contexts on another GPU.
bool Runtime::HasSeveralDevices() {
  int count = device_count_.load(std::memory_order_relaxed);
  if (count == 0 && driver.DeviceGetCount(&count) == CUDA_SUCCESS) device_count_.store(count);
  return count != 1;
}

// A thread asks the driver for its context each time, and for that one's device when it is another one, or
// when any context has ended, whose handle may be another's now.
DeviceState* Runtime::CurrentDevice(CUcontext* context) {
  struct Known {
    CUcontext context;
    CUdevice device;
    uint32_t ended;
  };
  __attribute__((tls_model("initial-exec"))) static thread_local Known t_known = {};
  Known now{nullptr, t_known.device, contexts.ended()};
  if (driver.CtxGetCurrent(&now.context) != CUDA_SUCCESS || now.context == nullptr) return nullptr;
  if (now.context != t_known.context || now.ended != t_known.ended || !in_front || HasSeveralDevices()) {
    if (driver.CtxGetDevice(&now.device) != CUDA_SUCCESS) return nullptr;
    contexts.Add(now.context);
    t_known = now;
  }
  if (context != nullptr) *context = now.context;
  DeviceState* state = Device(now.device);
  if (state != nullptr && !state->tier.used()) {
    ConnectPeers(*state);
    NoticeFirstUse();
  }
  return state;
}

void Runtime::StartAhead(DeviceState& device) {
  HostTier& host = device.host;
  if (options.host_ahead == 0 || host.chunk_limit() == 0) return;
  for (const auto& [tier, ahead] : aheads_) {
    if (tier == &host) return;
  }
  try {
    aheads_.emplace_back(&host, std::make_unique<HostAhead>(host, device.tier.device(), options.host_ahead));
  } catch (const std::system_error&) {
    Log(LogLevel::kWarn, "no thread could be started: host memory is created when it is asked for");
  }
}

void Runtime::WatchExit() {
  // The driver registered what it does at exit when it was initialised; this runs before.
  static const int registered = std::atexit([] {
    Gate::NeverWaitHere();
    Runtime* runtime = Existing();
    if (runtime != nullptr) runtime->StopAhead();
  });
  (void)registered;
}

void Runtime::StopAhead() {
  returner.Stop();
  std::vector<std::pair<HostTier*, std::unique_ptr<HostAhead>>> aheads;
  MutexLock lock(mutex_);
  aheads.swap(aheads_);
  for (auto& [tier, ahead] : aheads) {
    ahead.reset();
    tier->Trim();
  }
}

Entry::Entry(bool required, bool submits) {
  if (t_depth > 0) return;
  ++t_depth;  // making the runtime calls the driver, too
  runtime_ = required ? Runtime::Require() : Runtime::Get();
  if (runtime_ == nullptr) {
    --t_depth;
    return;
  }
  if (submits) {
    hold_ = Gate::EnterToSubmit();
  } else {
    Gate::Enter();
  }
  if (runtime_->options.report || !runtime_->options.stats_file.empty()) {
    start_ = NowNanoseconds();
  }
}

Entry::~Entry() {
  if (runtime_ == nullptr) return;
  Gate::Leave();
  --t_depth;
  if (start_ != 0) runtime_->nanoseconds.fetch_add(NowNanoseconds() - start_, std::memory_order_relaxed);
}

}  // namespace gpuroom
