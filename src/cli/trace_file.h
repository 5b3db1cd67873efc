// What a trace file (base/trace_format.h) holds. A process may be writing to it, or have ended in the midst
// of a record, so nothing in it is taken on trust.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/trace_format.h"

namespace gpuroom {

struct TraceFile {
  uint64_t process = 0;
  std::string program;
  uint64_t unix_offset = 0;          // nanoseconds to add to a record's time for those since 1970
  std::vector<TraceRecord> records;  // whole ones of kinds that we know, by the time at which they began
  uint64_t lost = 0;                 // records that later ones overwrote, or that were never finished
};

// When a record began, in nanoseconds since 1970.
uint64_t BeginOf(const TraceFile& file, const TraceRecord& record);

// kInvalidArgument where `bytes`, a whole file's, are no trace.
Result<TraceFile> ParseTrace(std::string_view bytes);

}  // namespace gpuroom
