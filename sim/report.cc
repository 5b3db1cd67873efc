#include "report.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "error_names.h"
#include "gpuroom_sim.h"
#include "state.h"

namespace gpuroom::sim {
namespace {

constexpr size_t kKeptLines = 100;

struct Misuses {
  int count = 0;
  std::vector<std::string> lines;
};
Misuses& GetMisuses() {
  static auto* misuses = new Misuses;
  return *misuses;
}

void CopyText(const std::vector<std::string>& lines, char* text, size_t size) {
  if (text == nullptr || size == 0) return;
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  std::snprintf(text, size, "%s", all.c_str());
}

std::string Line(const char* what, unsigned long long at, uint64_t bytes) {
  char text[128];
  std::snprintf(text, sizeof text, "%s 0x%llx, %llu bytes", what, at, static_cast<unsigned long long>(bytes));
  return text;
}

const char* KindName(RegionKind kind) {
  switch (kind) {
    case RegionKind::kAlloc: return "allocation";
    case RegionKind::kVmm: return "mapping";
    case RegionKind::kManaged: return "managed allocation";
    case RegionKind::kHost: return "host memory";
    case RegionKind::kPool: return "pool allocation";
    case RegionKind::kImported: return "imported memory";
  }
  return "memory";
}

std::vector<std::string> Leaks(State& state) {
  std::vector<std::string> lines;
  for (const auto& [handle, record] : state.handles) {
    lines.push_back(Line("handle", handle, record.chunk->bytes));
  }
  for (const auto& [start, region] : state.va.regions()) {
    if (!region.freed) lines.push_back(Line(KindName(region.kind), start, region.requested));
  }
  for (const auto& [start, reservation] : state.va.reservations()) {
    lines.push_back(Line("reservation", start, reservation.bytes));
  }
  return lines;
}

// At the library's end; with GPUROOM_SIM_STRICT=1 it fails the process.
struct ExitReport {
  ~ExitReport() {
    State& state = GetState();
    if (!state.strict || state.forked) return;
    const Lock lock(state.mutex);
    const std::vector<std::string> leaks = Leaks(state);
    const Misuses& misuses = GetMisuses();
    if (leaks.empty() && misuses.count == 0) return;
    std::fprintf(stderr, "gpuroom sim: %d misuses, %zu leaks\n", misuses.count, leaks.size());
    for (const std::string& line : misuses.lines) std::fprintf(stderr, "  misuse: %s\n", line.c_str());
    for (const std::string& line : leaks) std::fprintf(stderr, "  leak: %s\n", line.c_str());
    std::fflush(nullptr);
    _exit(kStrictExitCode);
  }
};
ExitReport g_exit_report;

}  // namespace

void NoteMisuse(std::string text) {
  Misuses& misuses = GetMisuses();
  ++misuses.count;
  if (misuses.lines.size() < kKeptLines) misuses.lines.push_back(std::move(text));
}

void CrashAsDriver(const char* why) {
  std::fprintf(stderr, "gpuroom sim: %s; a real driver faults here\n", why);
  std::signal(SIGSEGV, SIG_DFL);
  std::raise(SIGSEGV);
  std::abort();
}

const char* ResultNameOr(CUresult result) {
  const char* name = ResultName(result);
  return name != nullptr ? name : "an unknown result";
}

}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;
#define SIM_CONTROL extern "C" __attribute__((visibility("default")))

SIM_CONTROL int gpuroom_sim_leaks(char* text, size_t size) {
  auto& state = sim::GetState();
  const sim::Lock lock(state.mutex);
  const std::vector<std::string> leaks = sim::Leaks(state);
  sim::CopyText(leaks, text, size);
  return static_cast<int>(leaks.size());
}

SIM_CONTROL uint64_t gpuroom_sim_used(int device) {
  auto& state = sim::GetState();
  const sim::Lock lock(state.mutex);
  return state.Used(sim::Place{device});
}

SIM_CONTROL uint64_t gpuroom_sim_machine_used(int number) {
  auto& state = sim::GetState();
  const sim::Lock lock(state.mutex);
  const int ordinal = state.OrdinalOf(number);
  return ordinal >= 0 ? state.Used(sim::Place::Device(ordinal)) : 0;
}

SIM_CONTROL uint64_t gpuroom_sim_host_bytes() { return sim::GetState().profile.host; }

SIM_CONTROL int gpuroom_sim_strict_errors(char* text, size_t size) {
  const sim::Lock lock(sim::GetState().mutex);
  sim::CopyText(sim::GetMisuses().lines, text, size);
  return sim::GetMisuses().count;
}

SIM_CONTROL void gpuroom_sim_clear_strict_errors() {
  const sim::Lock lock(sim::GetState().mutex);
  sim::GetMisuses() = {};
}
