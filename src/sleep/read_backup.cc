#include "sleep/read_backup.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "driver/relaxed_capture.h"
#include "range/mover.h"
#include "sleep/copy_lane.h"
#include "sleep/placed_memory.h"
#include "sleep/sleeping_memory.h"

namespace gpuroom {
namespace {

constexpr size_t kAlignment = 4096;  // that a file wants which is read past the page cache

// A stretch of the contents.
struct Span {
  uint64_t begin;
  uint64_t end;

  Span And(uint64_t other_begin, uint64_t other_end) const {
    return {std::max(begin, other_begin), std::min(end, other_end)};
  }
  bool empty() const { return begin >= end; }
};

class BackupReader {
 public:
  // Contents from `wanted.begin` on go to `out`.
  BackupReader(const Driver& driver, SleepingMemory& memory, Span wanted, char* out)
      : memory_(memory), wanted_(wanted), out_(out), lane_(driver) {}
  ~BackupReader() { lane_.Close(); }
  BackupReader(const BackupReader&) = delete;
  BackupReader& operator=(const BackupReader&) = delete;

  Status Read() {
    Status status = lane_.Open();
    uint64_t offset = 0;
    for (const Original& original : memory_.originals) {
      if (original.kept && status.ok()) status = FromOriginal(original.chunk, offset);
      offset += original.chunk.bytes;
    }
    for (Backup& backup : memory_.backups) {
      if (status.ok()) status = backup.chunk != nullptr ? FromChunk(backup) : FromSlices(backup);
    }
    return status;
  }

 private:
  Status FromOriginal(const Chunk& chunk, uint64_t offset) {
    const Span span = wanted_.And(offset, offset + chunk.bytes);
    if (span.empty()) return Status();
    BackupChunk shown(memory_.host, chunk, lane_.device());
    shown.Forget();  // it stays the memory's
    const Status status = shown.Show();
    return status.ok() ? Copy(span, shown.va() + (span.begin - offset)) : status;
  }

  Status FromChunk(const Backup& backup) {
    const Span span = wanted_.And(backup.offset, backup.offset + backup.bytes);
    if (span.empty()) return Status();
    const Status status = backup.chunk->Show();
    return status.ok() ? Copy(span, backup.chunk->va() + backup.at + (span.begin - backup.offset)) : status;
  }

  Status Copy(Span span, CUdeviceptr from) {
    const Status status = lane_.CopyToHost(out_ + (span.begin - wanted_.begin), from, span.end - span.begin);
    return status.ok() ? lane_.Wait() : status;
  }

  Status FromSlices(Backup& backup) {
    std::vector<Slice> slices;
    CutSlices(memory_, backup, 0, &slices);
    for (const Slice& slice : slices) {
      const uint64_t offset = backup.offset + slice.at;
      const Span span = wanted_.And(offset, offset + slice.bytes);
      if (span.empty()) continue;
      if (buffer_ == nullptr) buffer_.reset(static_cast<char*>(std::aligned_alloc(kAlignment, kSliceBytes)));
      if (buffer_ == nullptr) return {Code::kOutOfMemory, "no memory to read a backup through"};
      const Status status = LoadSlice(slice, buffer_.get());
      if (!status.ok()) return status;
      std::memcpy(out_ + (span.begin - wanted_.begin), buffer_.get() + (span.begin - offset),
                  span.end - span.begin);
    }
    return Status();
  }

  struct Free {
    void operator()(char* data) const { std::free(data); }
  };

  SleepingMemory& memory_;
  const Span wanted_;
  char* const out_;
  CopyLane lane_;
  std::unique_ptr<char, Free> buffer_;
};

// The offset of `address` in `placed`; false where not all `bytes` lie in it.
bool Locate(const Placed& placed, CUdeviceptr address, uint64_t bytes, uint64_t* offset) {
  const uint64_t size = BytesOf(placed);
  for (const Window& window : placed.windows) {
    *offset = address - window.va;
    if (*offset < size && bytes <= size - *offset) return true;
  }
  return false;
}

Status ReadFrom(Runtime& rt, const Placed& placed, Span wanted, char* out) {
  auto& memory = static_cast<SleepingMemory&>(*placed.asleep);
  if (memory.action == SleepAction::kDrop) return {Code::kNotFound, "the contents were dropped"};
  const OnDevice there(rt.driver, placed.device);
  // It waits for its copies, and another thread may be capturing.
  const RelaxedCapture relaxed(rt.driver);
  if (!relaxed) return {Code::kDriver, "the thread's capture mode cannot be set"};
  return there.status().ok() ? BackupReader(rt.driver, memory, wanted, out).Read() : there.status();
}

}  // namespace

Status ReadBackup(Runtime& rt, CUdeviceptr address, uint64_t bytes, void* out) {
  Status status(Code::kNotFound, "nothing is asleep at that address");
  WithAllPlaced(rt, [&](const std::vector<Placed*>& all) {
    for (const Placed* placed : all) {
      uint64_t offset = 0;
      if (placed->awake() || !Locate(*placed, address, bytes, &offset)) continue;
      status = ReadFrom(rt, *placed, {offset, offset + bytes}, static_cast<char*>(out));
      return;
    }
  });
  return status;
}

}  // namespace gpuroom
