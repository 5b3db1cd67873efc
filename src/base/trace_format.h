// What lies in a trace file: one TraceHeader, and behind it, at kTraceRecordsAt, a ring of TraceRecords. The
// library writes it (trace.h) through a shared mapping, so that all that was written is in the file however
// the process ends, and `gpuroom trace` reads it. Numbers are in the machine's own order, so a file is read
// on a machine of the kind that wrote it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace gpuroom {

// What happened. A number means the same for good: new kinds go to the end.
enum class TraceKind : uint16_t {
  kAllocation,  // a range, managed memory or a handle was made
  kFree,        // and given back
  kPlan,        // where the bytes of a range are to lie
  kGiveWay,     // large data left HBM for a request
  kMove,        // one batch of moves between tiers
  kStandstill,  // the program was held up so that memory could move
  kSleep,
  kWake,
  kRefusal,  // a request was refused
};

// How a kind is shown, and the names of its record's values; "": not used.
struct TraceKindInfo {
  const char* name;
  std::array<const char*, 4> values;
};

inline constexpr std::array<TraceKindInfo, 9> kTraceKinds = {{
    {"allocation", {"address", "bytes", "host_bytes", "peer_bytes"}},
    {"free", {"address", "bytes", "", ""}},
    {"plan", {"bytes", "hbm_bytes", "peer_bytes", "host_bytes"}},
    {"give way", {"bytes_asked", "bytes_moved", "", ""}},
    {"move", {"to_hbm_bytes", "to_peer_bytes", "to_host_bytes", "failed_parts"}},
    {"standstill", {"reached", "", "", ""}},
    {"sleep", {"kept_bytes", "on_disk_bytes", "dropped_bytes", ""}},
    {"wake", {"restored_bytes", "on_host_bytes", "fresh_bytes", ""}},
    {"refusal", {"bytes", "", "", ""}},
}};

inline constexpr uint16_t kNoTraceDevice = UINT16_MAX;

// A record is whole where `sequence` is its number, counted from 1; while one is written it is 0.
struct TraceRecord {
  uint64_t sequence;
  uint64_t end;       // nanoseconds of CLOCK_MONOTONIC
  uint64_t duration;  // nanoseconds; 0: of no length
  std::array<uint64_t, 4> values;
  uint32_t thread;  // the kernel's number
  uint16_t kind;    // TraceKind
  uint16_t device;  // CUDA's number in that process; kNoTraceDevice: of none
};
static_assert(sizeof(TraceRecord) == 64);

inline constexpr char kTraceMagic[8] = {'g', 'p', 'u', 'r', 't', 'r', 'c', '1'};
inline constexpr size_t kTraceRecordsAt = 4096;
inline constexpr uint64_t kTraceCapacity = 65536;  // records, 4 MiB
inline constexpr size_t kTraceBytes = kTraceRecordsAt + kTraceCapacity * sizeof(TraceRecord);

struct TraceHeader {
  char magic[8];
  uint64_t capacity;   // records in the ring
  uint64_t next;       // records that were begun so far; beyond `capacity` the oldest are overwritten
  uint64_t monotonic;  // nanoseconds of CLOCK_MONOTONIC
  uint64_t unix_time;  // and of CLOCK_REALTIME, at the same moment
  uint64_t process;
  char program[16];  // its name, as the kernel has it, with a 0 behind
};
static_assert(sizeof(TraceHeader) <= kTraceRecordsAt);

}  // namespace gpuroom
