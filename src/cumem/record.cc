#include "cumem/record.h"

#include <algorithm>

#include "base/undo.h"

namespace gpuroom::cumem {
namespace {

constexpr int kInsist = 16;

// For calls that put things back: nobody else knows what is to be undone.
template <typename F>
int Insist(F call) {
  int code = call();
  for (int tries = 1; code != 0 && tries < kInsist; ++tries) code = call();
  return code;
}

// Calls `step(va, chunk)` for each chunk until one gives false.
template <typename F>
bool ForEach(Record& record, F step) {
  uint64_t va = record.va;
  for (Chunk& chunk : record.chunks) {
    if (!step(va, chunk)) return false;
    va += chunk.bytes;
  }
  return true;
}

void TakeBack(Operations& gpu, Record& record) {
  ForEach(record, [&](uint64_t va, Chunk& chunk) {
    if (chunk.mapped_now) chunk.mapped = Insist([&] { return gpu.Unmap(va, chunk.bytes); }) != 0;
    if (chunk.created_now && !chunk.mapped) {
      chunk.created = Insist([&] { return gpu.Release(chunk.handle); }) != 0;
    }
    return true;
  });
}

bool Create(Operations& gpu, int device, Chunk& chunk, Error* error) {
  const int code = chunk.created ? 0 : gpu.Create(device, chunk.bytes, &chunk.handle);
  chunk.created_now = !chunk.created && code == 0;
  chunk.created = chunk.created || code == 0;
  return GPUROOM_CUMEM_CALL(gpu, code, "Create", chunk.bytes, device, error);
}

bool Map(Operations& gpu, int device, uint64_t va, Chunk& chunk, Error* error) {
  const int code = chunk.mapped ? 0 : gpu.Map(va, chunk.bytes, chunk.handle);
  chunk.mapped_now = !chunk.mapped && code == 0;
  chunk.mapped = chunk.mapped || code == 0;
  return GPUROOM_CUMEM_CALL(gpu, code, "Map", chunk.bytes, device, error);
}

bool Drain(Operations& gpu, const Record& record, Error* error) {
  const int code = gpu.Drain(record.device);
  if (code == 0) return true;
  const char* hint = gpu.IsCapture(code) ? "; a stream is being captured: end the capture first" : "";
  GPUROOM_CUMEM_FAIL(error, gpu.Text(code), "waiting for device %d before its memory is unmapped%s",
                     record.device, hint);
  return false;
}

// Maps again what was unmapped: the handles are there still, and so are the contents.
void MapAgain(Operations& gpu, Record& record) {
  const bool all = ForEach(record, [&](uint64_t va, Chunk& chunk) {
    if (!chunk.mapped) chunk.mapped = Insist([&] { return gpu.Map(va, chunk.bytes, chunk.handle); }) == 0;
    return chunk.mapped;
  });
  record.accessible =
      all && Insist([&] { return gpu.SetAccess(record.device, record.va, record.bytes); }) == 0;
}

bool ReleaseUnmapped(Operations& gpu, Record& record, Error* error) {
  bool all = true;
  for (Chunk& chunk : record.chunks) {
    if (!chunk.created || chunk.mapped) continue;
    const int code = Insist([&] { return gpu.Release(chunk.handle); });
    chunk.created = code != 0;
    if (!GPUROOM_CUMEM_CALL(gpu, code, "Release", chunk.bytes, record.device, error)) all = false;
  }
  return all;
}

// Each chunk is tried `tries` times; stops where one stays mapped.
bool UnmapAll(Operations& gpu, Record& record, int tries, Error* error) {
  return ForEach(record, [&](uint64_t va, Chunk& chunk) {
    if (!chunk.mapped) return true;
    int code = gpu.Unmap(va, chunk.bytes);
    for (int i = 1; code != 0 && i < tries; ++i) code = gpu.Unmap(va, chunk.bytes);
    chunk.mapped = code != 0;
    if (!chunk.mapped) record.accessible = false;
    return GPUROOM_CUMEM_CALL(gpu, code, "Unmap", chunk.bytes, record.device, error);
  });
}

}  // namespace

bool Record::has_memory() const {
  return std::any_of(chunks.begin(), chunks.end(), [](const Chunk& c) { return c.created || c.mapped; });
}

bool Record::has_mappings() const {
  return std::any_of(chunks.begin(), chunks.end(), [](const Chunk& c) { return c.mapped; });
}

bool Check(const Operations& gpu, int code, const char* call, uint64_t bytes, int device, const char* file,
           int line, Error* error) {
  if (code == 0) return true;
  error->Set(gpu.Text(code), file, line, "%s%s of %llu bytes on device %d", gpu.prefix(), call,
             static_cast<unsigned long long>(bytes), device);
  return false;
}

bool MapMissing(Operations& gpu, Record& record, Error* error) {
  for (Chunk& chunk : record.chunks) chunk.created_now = chunk.mapped_now = false;
  Undo undo([&] { TakeBack(gpu, record); });
  const int device = record.device;
  for (Chunk& chunk : record.chunks) {
    if (!Create(gpu, device, chunk, error)) return false;
  }
  if (!ForEach(record, [&](uint64_t va, Chunk& chunk) { return Map(gpu, device, va, chunk, error); }))
    return false;
  const int code = gpu.SetAccess(device, record.va, record.bytes);
  if (!GPUROOM_CUMEM_CALL(gpu, code, "SetAccess", record.bytes, device, error)) return false;
  record.accessible = true;
  undo.Dismiss();
  return true;
}

bool Withdraw(Operations& gpu, Record& record, Error* error) {
  const bool was_accessible = record.accessible;
  if (record.has_mappings() && !Drain(gpu, record, error)) return false;
  if (UnmapAll(gpu, record, 1, error)) return ReleaseUnmapped(gpu, record, error);
  if (was_accessible) MapAgain(gpu, record);
  return false;
}

bool Dispose(Operations& gpu, Record& record, Error* error) {
  if (record.has_mappings()) {
    // On a device that is beyond waiting for, nothing runs. But a capture ends, and then it can be waited
    // for.
    const int code = Insist([&] { return gpu.Drain(record.device); });
    if (gpu.IsCapture(code)) return Drain(gpu, record, error);
  }
  if (!UnmapAll(gpu, record, kInsist, error) || !ReleaseUnmapped(gpu, record, error)) return false;
  const int code = Insist([&] { return gpu.FreeAddress(record.va, record.bytes); });
  return GPUROOM_CUMEM_CALL(gpu, code, "AddressFree", record.bytes, record.device, error);
}

}  // namespace gpuroom::cumem
