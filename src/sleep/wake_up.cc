#include "sleep/wake_up.h"

#include <algorithm>

#include "driver/in_context.h"
#include "driver/scrap.h"
#include "sleep/ring.h"

namespace gpuroom {
namespace {

// A lazy wake maps host memory, at some 90 GB/s, and has the link copy at 55 meanwhile: it ends soonest when
// three eighths are copied, and these need not be moved afterwards (docs/measurements.md).
constexpr uint64_t CopiedByLazy(uint64_t bytes) { return bytes / 8 * 3; }

}  // namespace

DeviceWakingUp::DeviceWakingUp(const Driver& driver, bool lazy, DeviceWake& device)
    : driver_(driver), lazy_(lazy), device_(device), lane_(driver) {}

DeviceWakingUp::~DeviceWakingUp() {
  {
    const InContext there(driver_, device_.context);
    lane_.Close();
  }
  if (committed_) return;
  for (Item& item : items_) Undo(item);
}

Status DeviceWakingUp::Begin() {
  const InContext there(driver_, device_.context);
  Status status = there.status();
  if (status.ok()) status = lane_.Open();
  items_.reserve(device_.placed.size());
  uint64_t to_copy = BytesToCopy();
  for (Placed* placed : device_.placed) {
    if (!status.ok()) return status;
    // Nobody else makes an Asleep.
    auto* memory = static_cast<SleepingMemory*>(placed->asleep.get());
    items_.push_back({placed, memory, PlanWake(*memory, &to_copy)});
    status = Fill(&items_.back());
  }
  // Mapping host memory takes as long as copying half as much: while others are copied.
  for (Item& item : items_) {
    for (const WakeSegment& segment : item.plan.segments) {
      if (status.ok() && !segment.fresh) status = Map(&item, segment);
    }
  }
  return status;
}

// Of what could stay on the host. There it stays if HBM has no room for more than what has to be made anew.
uint64_t DeviceWakingUp::BytesToCopy() const {
  if (!lazy_) return UINT64_MAX;
  uint64_t whole = 0;
  uint64_t anew = 0;
  for (const Placed* placed : device_.placed) {
    const auto& memory = static_cast<const SleepingMemory&>(*placed->asleep);
    anew += memory.bytes;
    for (const Backup& backup : memory.backups) whole += backup.Whole() ? backup.bytes : 0;
  }
  anew -= whole;
  const uint64_t free = device_.source->DeviceFree();
  return std::min(CopiedByLazy(whole), free > anew ? free - anew : 0);
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

// All memory that mapping and Commit need: what is mapped has to be noted.
void DeviceWakingUp::Reserve(Item* item) {
  size_t chunks = 0;
  for (const WakeSegment& segment : item->plan.segments) chunks += segment.chunks.size();
  item->placed->chunks.reserve(chunks);
  item->mapped.reserve(item->plan.segments.size() * (item->placed->windows.size() + 1));
}

Status DeviceWakingUp::Fill(Item* item) {
  Reserve(item);
  const Status found = FindAddress(item);
  if (!found.ok()) return found;
  for (WakeSegment& segment : item->plan.segments) {
    if (!segment.fresh) continue;
    const Status status = CreateAndMap(item, &segment);
    if (!status.ok()) return status;
  }
  return CopyFromChunks(*item);
}

Result<Chunk> DeviceWakingUp::Create(const Chunk& wanted) const {
  Result<Chunk> made = device_.source->CreateChunk(wanted.tier, wanted.place, wanted.bytes);
  const bool no_room = made.status().code() == Code::kOutOfMemory && wanted.tier == Tier::kDevice;
  if (!no_room || !device_.anywhere) return made;
  for (const TierState& state : device_.source->States()) {
    if (state.tier == Tier::kHost) made = device_.source->CreateChunk(Tier::kHost, state.place, wanted.bytes);
  }
  return made;
}

Status DeviceWakingUp::CreateAndMap(Item* item, WakeSegment* segment) {
  for (Chunk& chunk : segment->chunks) {
    const Result<Chunk> made = Create(chunk);
    if (!made.ok()) return made.status();
    if (made->tier != chunk.tier) item->elsewhere = true;
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
  for (size_t i = 0; i < item.memory->backups.size(); ++i) {
    const Backup& backup = item.memory->backups[i];
    if (backup.chunk == nullptr || item.plan.stays[i]) continue;
    const Status status = lane_.Copy(item.va + backup.offset, backup.chunk->va() + backup.at, backup.bytes);
    if (!status.ok()) return status;
  }
  return Status();
}

Status DeviceWakingUp::Finish() {
  const InContext there(driver_, device_.context);
  Status status = there.status();
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

// A destructor calls it: it needs no memory.
void DeviceWakingUp::Undo(Item& item) {
  for (WakeSegment& segment : item.plan.segments) {
    std::erase_if(segment.chunks, [&](const Chunk& chunk) { return !segment.fresh || chunk.handle == 0; });
  }
  GiveBack([&driver = driver_, &source = *device_.source, scratch = std::move(item.scratch),
            mapped = std::move(item.mapped), segments = std::move(item.plan.segments)]() mutable {
    for (; !mapped.empty(); mapped.pop_back()) {
      if (driver.MemUnmap(mapped.back().va, mapped.back().bytes) != CUDA_SUCCESS) return false;
    }
    return std::all_of(segments.begin(), segments.end(),
                       [&](WakeSegment& segment) { return source.Release(&segment.chunks).ok(); });
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
  for (size_t i = 0; i < memory.backups.size(); ++i) {
    if (!item.plan.stays[i]) continue;
    memory.backups[i].chunk->Forget();
    counts->on_host += memory.backups[i].bytes;
    placed.wants_device = true;
  }
  if (item.elsewhere) placed.wants_device = true;
  for (const WakeSegment& segment : item.plan.segments) {
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

}  // namespace gpuroom
