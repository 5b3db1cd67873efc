#include "sleep/wake_up.h"

#include "driver/insist.h"
#include "sleep/ring.h"
#include "sleep/scrap.h"

namespace headroom {

DeviceWakingUp::DeviceWakingUp(const Driver& driver, bool lazy, DeviceWake& device)
    : driver_(driver), lazy_(lazy), device_(device), lane_(driver) {}

DeviceWakingUp::~DeviceWakingUp() {
  {
    const Current current(driver_, device_.context);
    lane_.Close();
  }
  if (committed_) return;
  for (const Item& item : items_) Undo(item);
}

Status DeviceWakingUp::Begin() {
  const Current current(driver_, device_.context);
  Status status = current.status();
  if (status.ok()) status = lane_.Open();
  items_.reserve(device_.placed.size());
  for (Placed* placed : device_.placed) {
    if (!status.ok()) return status;
    // Nobody else makes an Asleep.
    auto* memory = static_cast<SleepingMemory*>(placed->asleep.get());
    items_.push_back({placed, memory, PlanWake(*memory, lazy_)});
    status = Fill(&items_.back());
  }
  // Mapping host memory takes as long as copying half as much: while others are copied.
  for (Item& item : items_) {
    for (const WakeSegment& segment : item.segments) {
      if (status.ok() && !segment.fresh) status = Map(&item, segment);
    }
  }
  return status;
}

// The program may have unmapped it, or closed it to its own device, since it fell asleep.
Status DeviceWakingUp::FindAddress(Item* item) {
  for (const Window& window : item->placed->windows) {
    if ((window.writers >> lane_.device() & 1) == 0) continue;
    item->va = window.va;
    return Status();
  }
  Result<std::shared_ptr<Scratch>> scratch = Scratch::Reserve(driver_, item->memory->bytes);
  if (!scratch.ok()) return scratch.status();
  item->scratch = std::move(*scratch);
  item->va = item->scratch->va();
  return Status();
}

Status DeviceWakingUp::Fill(Item* item) {
  const Status found = FindAddress(item);
  if (!found.ok()) return found;
  for (WakeSegment& segment : item->segments) {
    if (!segment.fresh) continue;
    const Status status = CreateAndMap(item, &segment);
    if (!status.ok()) return status;
  }
  return CopyFromChunks(*item);
}

Status DeviceWakingUp::CreateAndMap(Item* item, WakeSegment* segment) {
  for (Chunk& chunk : segment->chunks) {
    const Result<Chunk> made = device_.source->CreateChunk(chunk.tier, chunk.place, chunk.bytes);
    if (!made.ok()) return made.status();
    chunk = *made;
  }
  return Map(item, *segment);
}

Status DeviceWakingUp::Map(Item* item, const WakeSegment& segment) {
  for (const Window& window : item->placed->windows) {
    const Status status = MapAt(item, segment, window);
    if (!status.ok()) return status;
  }
  if (item->scratch == nullptr) return Status();
  return MapAt(item, segment, {item->va, uint64_t{1} << lane_.device(), 0});
}

Status DeviceWakingUp::MapAt(Item* item, const WakeSegment& segment, const Window& window) {
  const CUdeviceptr va = window.va + segment.offset;
  uint64_t mapped = 0;
  const Status status = MapChunks(driver_, va, segment.chunks, &mapped);
  if (mapped > 0) item->mapped.push_back({va, mapped});
  return status.ok() ? SetAccess(driver_, va, segment.bytes, window.writers, window.readers) : status;
}

Status DeviceWakingUp::CopyFromChunks(const Item& item) {
  for (const Backup& backup : item.memory->backups) {
    if (backup.chunk == nullptr || StaysOnHost(backup)) continue;
    const Status status = lane_.Copy(item.va + backup.offset, backup.chunk->va() + backup.at, backup.bytes);
    if (!status.ok()) return status;
  }
  return Status();
}

Status DeviceWakingUp::Finish() {
  const Current current(driver_, device_.context);
  Status status = current.status();
  if (status.ok()) status = PassThroughRing();
  return status.ok() ? lane_.Wait() : status;
}

// What is not in host chunks is brought; of what is, the checksums are compared when it arrived.
Status DeviceWakingUp::PassThroughRing() {
  std::vector<Slice> loaded;
  std::vector<Slice> checked;
  for (const Item& item : items_) {
    for (Backup& backup : item.memory->backups) {
      const CUdeviceptr va = item.va + backup.offset;
      if (backup.chunk == nullptr) {
        CutSlices(*item.memory, backup, va, &loaded);
      } else if (!backup.sums.empty()) {
        CutSlices(*item.memory, backup, va, &checked);
      }
    }
  }
  if (loaded.empty() && checked.empty()) return Status();
  Ring ring(driver_, items_.front().memory->host);
  Status status = ring.Open(BytesOf(loaded) + BytesOf(checked));
  if (status.ok()) status = ring.ToDevice(loaded, LoadSlice);
  if (status.ok()) status = lane_.Wait();
  return status.ok() ? ring.FromDevice(checked, CheckSlice) : status;
}

void DeviceWakingUp::Undo(const Item& item) {
  std::vector<Chunk> made;
  for (const WakeSegment& segment : item.segments) {
    for (const Chunk& chunk : segment.chunks) {
      if (segment.fresh && chunk.handle != 0) made.push_back(chunk);
    }
  }
  GiveBack([&driver = driver_, &source = *device_.source, scratch = item.scratch, mapped = item.mapped,
            made]() mutable {
    for (; !mapped.empty(); mapped.pop_back()) {
      if (driver.MemUnmap(mapped.back().va, mapped.back().bytes) != CUDA_SUCCESS) return false;
    }
    return source.Release(&made).ok();
  });
}

void DeviceWakingUp::DropScratch(const Item& item) {
  if (item.scratch == nullptr) return;
  GiveBack([&driver = driver_, scratch = item.scratch, bytes = item.memory->bytes] {
    return driver.MemUnmap(scratch->va(), bytes) == CUDA_SUCCESS;
  });
}

void DeviceWakingUp::Commit(WakeCounts* counts) {
  committed_ = true;
  for (const Item& item : items_) CommitItem(item, counts);
}

void DeviceWakingUp::CommitItem(const Item& item, WakeCounts* counts) {
  Placed& placed = *item.placed;
  SleepingMemory& memory = *item.memory;
  for (const Backup& backup : memory.backups) {
    if (!StaysOnHost(backup)) continue;
    backup.chunk->Forget();
    counts->on_host += backup.bytes;
    placed.wants_device = true;
  }
  for (const WakeSegment& segment : item.segments) {
    placed.chunks.insert(placed.chunks.end(), segment.chunks.begin(), segment.chunks.end());
  }
  DropScratch(item);
  ++counts->ranges;
  (memory.action == SleepAction::kDrop ? counts->fresh : counts->restored) += memory.bytes;
  // The chunks that were kept are the Placed's again.
  memory.Forget();
  placed.asleep.reset();
  placed.CountTiers();
}

}  // namespace headroom
