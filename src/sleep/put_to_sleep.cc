#include "sleep/put_to_sleep.h"

#include <algorithm>

#include "driver/in_context.h"
#include "driver/scrap.h"
#include "range/mover.h"
#include "runtime/gate.h"
#include "sleep/ring.h"

namespace gpuroom {
namespace {

// Host chunks that were never shown are in groups while those before are copied: the first is small, so that
// copying starts at once; later ones are large, since each call costs 1 ms then (docs/measurements.md).
constexpr uint64_t kFirstGroup = 64 * kMiB;
constexpr uint64_t kMostGroup = 512 * kMiB;

}  // namespace

DeviceFallingAsleep::DeviceFallingAsleep(const Driver& driver, const SleepSettings& settings,
                                         DeviceSleep& device)
    : driver_(driver), settings_(settings), device_(device), lane_(driver) {}

DeviceFallingAsleep::~DeviceFallingAsleep() {
  {
    const InContext there(driver_, device_.context);
    lane_.Close();
  }
  if (committed_) return;
  for (const Item& item : items_) MapAgain(item);
}

Status DeviceFallingAsleep::Begin() {
  const InContext there(driver_, device_.context);
  Status status = there.status();
  if (status.ok()) status = lane_.Open();
  if (!status.ok()) return status;
  BackupRoom room(*device_.host, lane_.device());
  items_.reserve(device_.items.size());
  for (const SleepItem& item : device_.items) {
    status = Plan(item, &room);
    if (!status.ok()) return status;
  }
  status = PlanDisk();
  return status.ok() ? CopyIntoChunks() : status;
}

Status DeviceFallingAsleep::Plan(const SleepItem& item, BackupRoom* room) {
  const auto memory = std::make_shared<SleepingMemory>(item.action, *device_.source, *device_.host);
  for (const Chunk& chunk : item.placed->chunks) {
    // Not `kept` before the end: until then it is the Placed's.
    memory->originals.push_back({chunk, false});
    memory->bytes += chunk.bytes;
  }
  items_.push_back({item.placed, memory});
  if (item.action != SleepAction::kKeep) return Status();
  PlanKeep(&items_.back(), room);
  if (items_.back().in_block == 0) return Status();
  Result<std::unique_ptr<HostBlock>> block = HostBlock::Make(*device_.host, items_.back().in_block);
  if (!block.ok()) return block.status();
  memory->block = std::move(*block);
  return Status();
}

// What lies in host memory stays there; of the rest, adjacent chunks are one run.
void DeviceFallingAsleep::PlanKeep(Item* item, BackupRoom* room) {
  uint64_t offset = 0;
  uint64_t run = 0;  // bytes of the run that ends at `offset`
  for (const Chunk& chunk : item->placed->chunks) {
    if (chunk.tier == Tier::kHost) {
      PlanRun(item, offset - run, run, room);
      run = 0;
    } else {
      run += chunk.bytes;
    }
    offset += chunk.bytes;
  }
  PlanRun(item, offset - run, run, room);
}

void DeviceFallingAsleep::PlanRun(Item* item, uint64_t offset, uint64_t bytes, BackupRoom* room) {
  while (bytes > 0) {
    Backup backup;
    backup.offset = offset;
    if (room->Take(bytes, &backup)) {
      const CUdeviceptr from = item->placed->windows.front().va + offset;
      loads_.push_back({backup.chunk.get(), backup.at, from, backup.bytes});
    } else {
      backup.at = item->in_block;
      backup.bytes = bytes;
      item->in_block += bytes;
    }
    if (settings_.verify) backup.sums.resize(SlicesOf(backup.bytes));
    offset += backup.bytes;
    bytes -= backup.bytes;
    item->memory->backups.push_back(std::move(backup));
  }
}

// One file for all that goes to disk.
Status DeviceFallingAsleep::PlanDisk() {
  uint64_t sum = 0;
  for (const Item& item : items_) sum += item.memory->Bytes().on_disk;
  if (sum == 0) return Status();
  const FileName name = settings_.visible_files ? FileName::kVisible : FileName::kNone;
  const Result<std::shared_ptr<BackupFile>> file = BackupFile::Create(settings_.directory, sum, name);
  if (!file.ok()) return file.status();
  uint64_t offset = 0;
  for (const Item& item : items_) {
    const uint64_t bytes = item.memory->Bytes().on_disk;
    if (bytes == 0) continue;
    item.memory->file = std::make_unique<FileSpan>(*file, offset, bytes);
    Backup backup;
    backup.bytes = bytes;
    backup.sums.resize(SlicesOf(bytes));
    item.memory->backups.push_back(std::move(backup));
    offset += bytes;
  }
  return Status();
}

Status DeviceFallingAsleep::CopyIntoChunks() {
  uint64_t most = kFirstGroup;
  for (size_t first = 0; first < loads_.size();) {
    std::vector<BackupChunk*> fresh;
    uint64_t bytes = 0;
    size_t end = first;
    // A chunk's loads come one after another, but for others that fill theirs in between.
    for (; end < loads_.size() && bytes < most; ++end) {
      BackupChunk* chunk = loads_[end].chunk;
      if (chunk->va() != 0 || loads_[end].at != 0) continue;
      fresh.push_back(chunk);
      bytes += chunk->chunk().bytes;
    }
    const Status status = CopyGroup(first, end, fresh);
    if (!status.ok()) return status;
    first = end;
    most = std::min(2 * most, kMostGroup);
  }
  return Status();
}

Status DeviceFallingAsleep::CopyGroup(size_t first, size_t end, const std::vector<BackupChunk*>& fresh) {
  Status status = BackupChunk::ShowTogether(fresh);
  for (size_t i = first; i < end && status.ok(); ++i) {
    const Load& load = loads_[i];
    status = lane_.Copy(load.chunk->va() + load.at, load.from, load.bytes);
  }
  return status;
}

Status DeviceFallingAsleep::Finish() {
  const InContext there(driver_, device_.context);
  Status status = there.status();
  if (status.ok()) status = PassThroughRing();
  return status.ok() ? lane_.Wait() : status;
}

// What is not in host chunks is stored; of what is, the checksums are made.
Status DeviceFallingAsleep::PassThroughRing() {
  std::vector<Slice> stored;
  std::vector<Slice> summed;
  for (const Item& item : items_) {
    for (Backup& backup : item.memory->backups) {
      const CUdeviceptr va = item.placed->windows.front().va + backup.offset;
      if (backup.chunk == nullptr) {
        CutSlices(*item.memory, backup, va, &stored);
      } else if (!backup.sums.empty()) {
        CutSlices(*item.memory, backup, va, &summed);
      }
    }
  }
  if (stored.empty() && summed.empty()) return Status();
  Ring ring(driver_, *device_.host);
  Status status = ring.Open(BytesOf(stored) + BytesOf(summed));
  if (status.ok()) status = ring.FromDevice(stored, StoreSlice);
  if (status.ok()) status = ring.FromDevice(summed, SumSlice);
  return status;
}

Status DeviceFallingAsleep::Unmap() {
  for (Item& item : items_) {
    for (; item.unmapped < item.placed->windows.size(); ++item.unmapped) {
      const CUdeviceptr va = item.placed->windows[item.unmapped].va;
      const CUresult result = driver_.MemUnmap(va, item.memory->bytes);
      if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemUnmap");
    }
  }
  return Status();
}

void DeviceFallingAsleep::MapAgain(const Item& item) const {
  for (size_t i = 0; i < item.unmapped; ++i) {
    const Window& window = item.placed->windows[i];
    uint64_t mapped = 0;
    const CUresult result = InsistOnMapping([&] {
      if (mapped > 0 && driver_.MemUnmap(window.va, mapped) != CUDA_SUCCESS) return CUDA_ERROR_UNKNOWN;
      Status status = MapChunks(driver_, window.va, item.placed->chunks, &mapped);
      if (status.ok()) status = SetAccess(driver_, window.va, mapped, window.writers, window.readers);
      return status.ok() ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
    });
    if (result == CUDA_SUCCESS) continue;
    Gate::RefuseForGood();
    LogLost(item.memory->bytes, window.va, "a sleep");
  }
}

void DeviceFallingAsleep::Commit(SleepCounts* counts) {
  committed_ = true;
  for (const Item& item : items_) {
    SleepingMemory& memory = *item.memory;
    for (Original& original : memory.originals) {
      original.kept = memory.action == SleepAction::kKeep && original.chunk.tier == Tier::kHost;
      if (original.chunk.tier != Tier::kHost) counts->released += original.chunk.bytes;
    }
    item.placed->chunks.clear();
    item.placed->asleep = item.memory;
    item.placed->CountTiers();
    for (const Original& original : memory.originals) {
      if (original.kept) continue;
      GiveBack([&source = *device_.source, chunk = original.chunk] { return source.Release(chunk).ok(); });
    }
    const AsleepBytes bytes = memory.Bytes();
    ++counts->ranges;
    counts->kept += bytes.kept;
    counts->on_disk += bytes.on_disk;
    counts->dropped += bytes.dropped;
  }
}

}  // namespace gpuroom
