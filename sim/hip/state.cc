#include "state.h"

#include <unistd.h>

#include <cstdio>

#include "gpuroom_hip_sim.h"

namespace gpuroom::hip_sim {
namespace {

int CopyLines(const std::vector<std::string>& lines, char* text, size_t size) {
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  if (text != nullptr && size > 0) std::snprintf(text, size, "%s", all.c_str());
  return static_cast<int>(lines.size());
}

std::string Line(const char* what, const void* at, uint64_t bytes) {
  char text[128];
  std::snprintf(text, sizeof text, "%s %p, %llu bytes", what, at, static_cast<unsigned long long>(bytes));
  return text;
}

const void* Pointer(uint64_t address) { return reinterpret_cast<const void*>(address); }  // NOLINT

}  // namespace

State& GetState() {
  static auto* state = new State;
  return *state;
}

int& CurrentDevice() {
  static thread_local int device = 0;
  return device;
}

hipError_t Misuse(std::string text, hipError_t answer) {
  GetState().misuses.push_back(std::move(text));
  return answer;
}

void Drop(hipHandle handle) {
  if (handle->references > 0 || handle->mappings > 0) return;
  GetState().used[handle->prop.location.id] -= handle->bytes;
  close(handle->fd);
  delete handle;
}

Mapping* FindMapping(uint64_t address, uint64_t* start) {
  auto& mappings = GetState().mappings;
  auto next = mappings.upper_bound(address);
  if (next == mappings.begin()) return nullptr;
  --next;
  if (address - next->first >= next->second.bytes) return nullptr;
  *start = next->first;
  return &next->second;
}

}  // namespace gpuroom::hip_sim

namespace sim = gpuroom::hip_sim;

HIP_SIM_API int gpuroom_hip_sim_leaks(char* text, size_t size) {
  auto& state = sim::GetState();
  const std::lock_guard<std::mutex> lock(state.mutex);
  std::vector<std::string> lines;
  for (const hipHandle handle : state.handles) lines.push_back(sim::Line("handle", handle, handle->bytes));
  for (const auto& [start, mapping] : state.mappings) {
    lines.push_back(sim::Line("mapping", sim::Pointer(start), mapping.bytes));
  }
  for (const auto& [start, bytes] : state.reservations) {
    lines.push_back(sim::Line("reservation", sim::Pointer(start), bytes));
  }
  return sim::CopyLines(lines, text, size);
}

HIP_SIM_API uint64_t gpuroom_hip_sim_used(int device) {
  auto& state = sim::GetState();
  const std::lock_guard<std::mutex> lock(state.mutex);
  return device >= 0 && device < sim::kDevices ? state.used[device] : 0;
}

HIP_SIM_API void gpuroom_hip_sim_set_capacity(uint64_t bytes) {
  auto& state = sim::GetState();
  const std::lock_guard<std::mutex> lock(state.mutex);
  state.capacity = bytes;
}

HIP_SIM_API void gpuroom_hip_sim_set_capturing(int on) {
  auto& state = sim::GetState();
  const std::lock_guard<std::mutex> lock(state.mutex);
  state.capturing = on != 0;
}

HIP_SIM_API int gpuroom_hip_sim_strict_errors(char* text, size_t size) {
  auto& state = sim::GetState();
  const std::lock_guard<std::mutex> lock(state.mutex);
  return sim::CopyLines(state.misuses, text, size);
}
