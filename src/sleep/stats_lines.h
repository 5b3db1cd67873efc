// The lines of a status reply that have a process's figures (runtime/process_stats.h). Pure functions.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "runtime/process_stats.h"
#include "sleep/control_line.h"

namespace gpuroom {

// Raised when a field changes its meaning; new fields alone leave it.
inline constexpr uint64_t kStatsVersion = 1;

// What names the histograms of a ProcessStats.
struct NamedTimes {
  const char* name;
  TimeCounts ProcessStats::*member;
};
inline constexpr std::array<NamedTimes, 4> kNamedTimes = {{{"standstills", &ProcessStats::standstills},
                                                           {"moves", &ProcessStats::moves},
                                                           {"sleeps", &ProcessStats::sleeps},
                                                           {"wakes", &ProcessStats::wakes}}};

std::string StatsLines(const ProcessStats& stats);
// Enters one of them. The line "stats" comes first and makes `stats` exist; without it, or where its version
// is another, the others are passed over, as are lines of other kinds.
void ReadStatsLine(const ControlLine& line, std::optional<ProcessStats>* stats);

}  // namespace gpuroom
