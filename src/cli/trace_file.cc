#include "cli/trace_file.h"

#include <algorithm>
#include <cstring>

namespace gpuroom {
namespace {

template <typename T>
T ReadAt(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// Whether the slot `slot` holds a record that can be shown, and is the `number`th, counted from 1.
bool IsWhole(const TraceRecord& record, uint64_t slot, const TraceHeader& header) {
  const bool of_this_slot = record.sequence != 0 && (record.sequence - 1) % header.capacity == slot;
  return of_this_slot && record.sequence <= header.next && record.kind < kTraceKinds.size() &&
         record.duration <= record.end;
}

}  // namespace

uint64_t BeginOf(const TraceFile& file, const TraceRecord& record) {
  return record.end - record.duration + file.unix_offset;
}

Result<TraceFile> ParseTrace(std::string_view bytes) {
  const Status no_trace(Code::kInvalidArgument, "not a trace of this version of gpuroom");
  if (bytes.size() < kTraceRecordsAt) return no_trace;
  const auto header = ReadAt<TraceHeader>(bytes, 0);
  const uint64_t room = (bytes.size() - kTraceRecordsAt) / sizeof(TraceRecord);
  if (std::memcmp(header.magic, kTraceMagic, sizeof header.magic) != 0) return no_trace;
  if (header.capacity == 0 || header.capacity > room) return no_trace;
  TraceFile file;
  file.process = header.process;
  file.program.assign(header.program, strnlen(header.program, sizeof header.program));
  file.unix_offset = header.unix_time - header.monotonic;
  for (uint64_t slot = 0; slot < std::min(header.capacity, header.next); ++slot) {
    const auto record = ReadAt<TraceRecord>(bytes, kTraceRecordsAt + slot * sizeof(TraceRecord));
    if (IsWhole(record, slot, header)) file.records.push_back(record);
  }
  file.lost = header.next - file.records.size();
  std::stable_sort(file.records.begin(), file.records.end(), [](const TraceRecord& a, const TraceRecord& b) {
    return a.end - a.duration < b.end - b.duration;
  });
  return file;
}

}  // namespace gpuroom
