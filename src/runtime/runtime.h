// Runtime: the shim's state in this process, made on the first driver call that
// concerns it and never destroyed, since programs free memory in their own
// destructors. Entry is how every hook and every C function gets at it.
//
// A program that only opens the library has no hooks: it gets memory by the C
// interface alone, and nothing is moved but what it asks for, since its launches do
// not pass the gate.
//
// A hook passes its call through untouched when Entry is empty: no limits were
// set, the driver could not be bound, the process was forked from one that used
// CUDA, or the call comes from inside another hook.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <memory>

#include "base/clock.h"
#include "driver/driver.h"
#include "range/managed_table.h"
#include "range/range_table.h"
#include "runtime/activity.h"
#include "runtime/captures.h"
#include "runtime/contexts.h"
#include "runtime/device_pools.h"
#include "runtime/gate.h"
#include "runtime/handle_table.h"
#include "runtime/hbm_waits.h"
#include "runtime/ipc_imports.h"
#include "runtime/options.h"
#include "runtime/pointer_table.h"
#include "runtime/retired.h"
#include "runtime/returner.h"
#include "runtime/small_blocks.h"
#include "runtime/standstill.h"
#include "tier/host_ahead.h"

namespace gpuroom {

struct AllocationCounts {
  std::atomic<uint64_t> allocations{0};
  std::atomic<uint64_t> spilled{0};                 // of these, with bytes outside HBM
  std::atomic<uint64_t> largest{0};                 // bytes
  std::atomic<uint64_t> displaced{0};               // bytes that gave way
  std::array<std::atomic<uint64_t>, 3> moved_to{};  // bytes, by Tier

  void Count(uint64_t bytes, bool is_spilled);
};

// When what gave way may come back (displace.h).
struct MoveBackState {
  std::atomic<uint64_t> not_before{0};   // clock's nanoseconds
  std::atomic<uint64_t> moved_back{0};   // when last
  std::atomic<bool> was_in_vain{false};  // something gave way soon after that
  std::atomic<uint64_t> wait{0};
  std::atomic<uint64_t> refused{0};  // the wait since a standstill was not had; 0: it was
};

// Whose turn it is to write a report of this process: the thread that does so in intervals, or the process's
// end, which has the last word.
class ReportTurn {
 public:
  // In between; false: not now, or for good.
  bool Take() {
    State idle = State::kIdle;
    return state_.compare_exchange_strong(idle, State::kTaken);
  }
  void GiveBack() { state_.store(State::kIdle); }
  // At the end: true for the first who asks, who need not give it back. Waits for a second at most.
  bool TakeLast();
  bool over() const { return state_.load() == State::kOver; }

 private:
  enum class State { kIdle, kTaken, kOver };
  std::atomic<State> state_{State::kIdle};
};

// One device as the shim manages it.
struct DeviceState {
  DeviceState(const Driver& driver, DeviceTier& own_tier, HostTier& host_tier, const LinkSpeeds& speeds,
              const Options& options);

  // Bytes that a program may be told of: total and, of the driver's own figures,
  // what is free.
  uint64_t VisibleTotal(uint64_t driver_total) const;
  uint64_t VisibleFree(uint64_t driver_free) const;

  DeviceTier& tier;
  HostTier& host;
  ChunkSource source;
  RangeBuilder builder;
  ManagedMemory managed;
  AllocationCounts counts;
  MoveBackState move_back;
  CUuuid uuid{};
  const uint64_t host_limit;
  const uint64_t hbm;             // bytes that may be used: the limit, or all that the GPU has
  const uint64_t resident_below;  // bytes, as Options::ResidentBelow
  const Backend backend;          // of what no rule says otherwise
};

// Bytes that a GPU of `total` bytes, of which the program may use `limit`, lends at most.
uint64_t LoanLimit(const PeerLoan& loan, uint64_t total, uint64_t limit);

class Runtime {
 public:
  static constexpr int kMaxDevices = AddressMap::kMaxDevices;

  // Null where calls pass through.
  static Runtime* Get();
  // The same for the C interface, which needs no limits. Where the program only opened the library
  // and set none, host memory is what this machine can spare. Null: no CUDA 13 driver, or forked.
  static Runtime* Require();
  // The same without making it: null before the first use.
  static Runtime* Existing();

  // Null for an ordinal that the driver does not have.
  DeviceState* Device(CUdevice device);
  // True once a device has been used, after which CUDA does not survive a fork.
  bool UsedDevices() const;
  // The device's primary context was reset: the driver has freed what it gave out,
  // and nothing runs there any more, so the ranges go as well.
  void ForgetDevice(CUdevice device);
  // A context has ended, all that ran or was captured in it, and what the driver gave out there; so
  // what we gave out there goes as well.
  void ForgetContext(CUcontext context, CUdevice device);
  // Its work and captures alone.
  void ForgetWork(CUcontext context);
  // Of the current context, which *context (may be null) is then; null without one.
  DeviceState* CurrentDevice(CUcontext* context = nullptr);
  // Before the driver ends: no thread of ours calls it any more.
  void StopAhead();
  // Sees to it that StopAhead is called when the process exits, and that nothing waits for a wake then.
  static void WatchExit();
  // The range that holds `address`, of this process or opened from another; those look
  // the same to the program.
  bool FindRange(CUdeviceptr address, RangeInfo* range, bool* imported);
  // Whether the memory at `address`, if it is of this process's making, is asleep.
  bool IsAsleep(CUdeviceptr address);
  // To be called when memory has left the tables: where the last goes that slept, the hold on submissions
  // ends.
  void EndHoldIfAwake();
  // Bytes that the program is told are free on a device, of which the driver says `driver_free`.
  uint64_t ToldFree(const DeviceState& device, uint64_t driver_free);
  // Host bytes that no process on this node has claimed.
  uint64_t HostUnclaimed() { return share_.Unclaimed(); }
  // Host bytes that are a GPU's own part, if the process sees `gpus` GPUs; 0: GPUs share what there is.
  uint64_t HostPartOf(int gpus) const { return options.host_part.Of(options.host_limit, gpus); }
  // Null until Device() was called for it.
  DeviceState* ExistingDevice(CUdevice device) const {
    return devices_[device].load(std::memory_order_acquire);
  }

  const Driver driver;
  const Options options;
  const pid_t pid;  // of the process that this is the state of
  ReportTurn report_turn;
  const bool in_front;  // the program's launches and frees pass our hooks
  AddressMap memory;    // what lies where: of ranges, managed, imports and handles
  RangeTable ranges{memory, AddressMap::Kind::kRange};
  ManagedTable managed{memory};
  ImportTable imports;
  PointerTable pointers;
  HandleTable handles{memory};
  SmallBlocks small_blocks{*this};
  Retired retired;
  Captures captures;
  Contexts contexts;
  DevicePools pools;
  Waiter waiter;
  Returner returner;
  HbmWaits hbm_waits;
  Activity activity;
  std::atomic<uint64_t> margin{0};       // bytes that an allocation with a tag leaves free, or fails
  std::atomic<uint64_t> nanoseconds{0};  // spent in hooks, while options.report or stats_file ask for it

 private:
  Runtime(const Driver& bound, const Options& read);
  static Runtime* Create(bool required);
  // The tier of a device next to that node: its own where GPUs have parts, else the one that the node's
  // share.
  HostTier* HostFor(int numa_node) GPUROOM_REQUIRES(mutex_);
  HostTier* AddHost(int numa_node, HostShare& share) GPUROOM_REQUIRES(mutex_);
  // Null for an ordinal that the driver does not have.
  DeviceTier* TierOf(CUdevice device) GPUROOM_REQUIRES(mutex_);
  // What `options.peers` lets a device use that is new.
  void AddPeers(DeviceState& device) GPUROOM_REQUIRES(mutex_);
  void AddPeer(DeviceState& device, const PeerLoan& loan, bool while_idle) GPUROOM_REQUIRES(mutex_);
  DeviceState* MakeDevice(CUdevice device);
  bool HasSeveralDevices();
  // Host memory ahead for a device that is used for the first time.
  void StartAhead(DeviceState& device) GPUROOM_REQUIRES(mutex_);
  // Lets a device that is used for the first time and those used before reach each
  // other's ranges. cuMemcpyPeer needs no enabled access on the driver's own memory,
  // but crashes on host chunks that only one of the devices may access.
  void ConnectPeers(DeviceState& fresh);
  void LetAccess(DeviceState& owner, const DeviceState& accessor) GPUROOM_REQUIRES(mutex_);

  Mutex mutex_;
  HostShare share_;
  HostShare no_share_{0, 0, nullptr};
  HostTier no_host_;
  std::vector<std::pair<HostTier*, std::unique_ptr<HostAhead>>> aheads_ GPUROOM_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<HostShare>> parts_ GPUROOM_GUARDED_BY(mutex_);  // of devices that have one
  std::vector<std::unique_ptr<HostTier>> hosts_ GPUROOM_GUARDED_BY(mutex_);
  std::array<std::unique_ptr<DeviceTier>, kMaxDevices> tiers_ GPUROOM_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<PeerTier>> loans_ GPUROOM_GUARDED_BY(mutex_);
  std::array<std::atomic<DeviceState*>, kMaxDevices> devices_{};
  std::atomic<int> device_count_{0};  // 0: not asked yet
};

// Called, in a hook, whenever a device of this process is used for the first time. Does nothing where
// no layer above defines it. Not a pointer that someone sets: the program's libraries may use a device in
// their constructors, before any of this library's have run.
void NoticeFirstUse();

// For hooks that submit work and need nothing but to be kept out while memory moves or sleeps.
class Submission {
 public:
  Submission() : passes_(t_depth == 0 && Runtime::Existing() != nullptr) {
    if (!passes_) return;
    ++t_depth;
    hold_ = Gate::EnterToSubmit();
  }
  ~Submission() {
    if (!passes_) return;
    Gate::Leave();
    --t_depth;
  }
  Submission(const Submission&) = delete;
  Submission& operator=(const Submission&) = delete;

  // kNone: it may submit. kCheck: it may where no argument lies in memory that is asleep. kFail and kLost: it
  // may not.
  Hold hold() const { return hold_; }

 private:
  const bool passes_;
  Hold hold_ = Hold::kNone;
};

class Entry {
 public:
  Entry() : Entry(false) {}
  // `required`: by Runtime::Require.
  explicit Entry(bool required) : Entry(required, false) {}
  // For a hook that submits work: waits as Submission does.
  static Entry OfSubmission() { return Entry(false, true); }
  ~Entry();
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

  explicit operator bool() const { return runtime_ != nullptr; }
  Runtime& operator*() const { return *runtime_; }
  Runtime* operator->() const { return runtime_; }
  Hold hold() const { return hold_; }  // as Submission::hold

 private:
  Entry(bool required, bool submits);

  Runtime* runtime_ = nullptr;
  Hold hold_ = Hold::kNone;
  uint64_t start_ = 0;
};

}  // namespace gpuroom
