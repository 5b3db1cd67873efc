// What the simulated driver knows: the machine, contexts, memory, handles. One
// State per process, never destroyed (threads may outlive main), one lock for
// all of it. Every entry point takes the lock through Guard (entry.h); nothing
// here locks.
#pragma once

#include <cuda.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "machine.h"
#include "physical.h"
#include "profile.h"
#include "va_table.h"

namespace gpuroom::sim {

using Lock = std::unique_lock<std::mutex>;

struct HandleRecord {
  ChunkPtr chunk;
  int references = 1;  // cuMemCreate and cuMemRetainAllocationHandle
};

// Of a device or a host node.
struct PoolSlots {
  CUmemoryPool standard = nullptr;  // made when it is first asked for
  CUmemoryPool current = nullptr;   // null: the standard one
};

struct Device {
  int number = 0;  // among all of the machine's (device_names.h)
  CUcontext primary = nullptr;
  CUcontext retired = nullptr;  // the primary before: the next one has its address
  int primary_references = 0;
  unsigned primary_flags = 0;
  PoolSlots pools;
  uint64_t graph_bytes = 0;       // that launched graphs took for their allocations
  uint64_t graph_bytes_high = 0;  // of them, since it was reset
};

struct State {
  std::mutex mutex;
  std::condition_variable progress;  // an operation finished, or a new one came

  Profile profile;
  std::string profile_error;
  std::vector<Device> devices;
  bool initialized = false;
  std::atomic<bool> forked{false};
  bool strict = false;
  std::mt19937_64 random;

  VaTable va;
  std::unordered_map<CUmemGenericAllocationHandle, HandleRecord> handles;
  // Live objects; a handle that is not here is refused.
  std::unordered_set<CUcontext> contexts;
  // What has ended stays: threads may still have a context on their stacks, and work its streams.
  std::vector<CUcontext> ended;
  std::unordered_set<CUstream> streams;
  std::unordered_set<CUevent> events;
  std::unordered_set<CUgraph> graphs;
  std::unordered_set<CUgraphExec> graph_execs;
  std::unordered_set<CUmemoryPool> pools;
  std::map<int, PoolSlots> node_pools;
  std::map<int, PoolSlots> managed_pools;  // by the place's index
  std::unordered_set<CUarray> arrays;

  // Budgets. Charge refuses what would exceed the capacity.
  bool Charge(Place place, uint64_t bytes);
  void Credit(Place place, uint64_t bytes);
  uint64_t Used(Place place) const;
  uint64_t Capacity(Place place) const;
  // What all processes on this machine together leave.
  uint64_t Free(Place place) const;
  // A context of this process is on the device: the driver takes memory for it.
  void NoteContext(int device);
  // For the child after fork().
  void LeaveMachine() { machine_.Close(); }
  uint64_t pinned = 0;  // cuMemAllocHost and friends, against the host's total

  uint64_t NextId() { return ++next_id_; }
  // cuCtxEnablePeerAccess: what kernels of one device may reach of another's
  // ordinary allocations.
  bool peer_enabled[kMaxDevices][kMaxDevices] = {};
  bool Linked(int from, int to) const { return from == to || profile.peer != PeerLink::kNone; }

  // Finds the GPUs that CUDA_VISIBLE_DEVICES leaves this process, as it is now. What cuInit answers.
  CUresult FindDevices();
  bool IsDevice(int ordinal) const { return ordinal >= 0 && ordinal < static_cast<int>(devices.size()); }
  // The ordinal of the machine's GPU `number`; -1: this process does not see it.
  int OrdinalOf(int number) const;
  // What other processes call a place: a GPU by its number on the machine, which is not its ordinal
  // everywhere.
  int SharedName(Place place) const;
  // False: this process does not see the GPU.
  bool FindPlace(int shared_name, Place* place) const;

 private:
  friend State& GetState();
  State();
  bool Exists(Place place) const;
  Machine machine_;
  uint64_t next_id_ = 0;
};

State& GetState();

// Per thread.
struct ThreadState {
  std::vector<CUcontext> contexts;  // the stack; the current one is last
  bool per_thread_default = false;  // inside a _ptsz or _ptds call
  bool in_host_function = false;
  CUstreamCaptureMode capture_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  uint64_t id = 0;
};
ThreadState& GetThread();

}  // namespace gpuroom::sim

// What the driver's opaque context handle points to.
struct CUstream_st;
struct CUctx_st {
  int device = 0;
  unsigned flags = 0;
  bool primary = false;
  CUresult sticky = CUDA_SUCCESS;
  CUstream legacy = nullptr;
  std::map<uint64_t, CUstream> per_thread;  // by thread id
  std::set<int> peers;                      // cuCtxEnablePeerAccess
  std::map<int, size_t> limits;
};
