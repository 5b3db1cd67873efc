// What the simulated HIP knows: handles, reservations, mappings; one lock for all. Memory is real: a handle
// is a memory file, a mapping shows it at the device address, and only where access was given.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "types.h"

// What an opaque handle points to. Lives while it is referenced or mapped.
struct SimulatedHandle {
  int fd = -1;
  uint64_t bytes = 0;
  int references = 1;
  int mappings = 0;
  hipMemAllocationProp prop{};
};

namespace gpuroom::hip_sim {

inline constexpr uint64_t kGranularity = uint64_t{2} << 20;
inline constexpr int kDevices = 2;

struct Mapping {
  uint64_t bytes = 0;
  hipHandle handle = nullptr;
  int access[kDevices] = {};
};

struct State {
  std::mutex mutex;
  std::map<uint64_t, uint64_t> reservations;  // by start: bytes
  std::map<uint64_t, Mapping> mappings;       // by start
  std::set<hipHandle> handles;                // those that may be used
  uint64_t used[kDevices] = {};
  uint64_t capacity = uint64_t{1} << 30;  // of each device
  bool capturing = false;
  std::vector<std::string> misuses;
};

State& GetState();
int& CurrentDevice();  // of this thread

// Notes that the program misused HIP, and is the answer.
hipError_t Misuse(std::string text, hipError_t answer = hipErrorInvalidValue);

// Takes one reference away; the memory goes with the last use.
void Drop(hipHandle handle);
// The mapping in which the address lies, or null.
Mapping* FindMapping(uint64_t address, uint64_t* start);

// Counts the call; what a failure rule makes of it, or hipSuccess. Under the lock.
hipError_t Enter(const char* name);

}  // namespace gpuroom::hip_sim

#define HIP_SIM_API extern "C" __attribute__((visibility("default")))
#define HIP_SIM_ENTER(name)                                     \
  auto& state = ::gpuroom::hip_sim::GetState();                 \
  const std::lock_guard<std::mutex> lock(state.mutex);          \
  const hipError_t injected = ::gpuroom::hip_sim::Enter(#name); \
  if (injected != hipSuccess) return injected
