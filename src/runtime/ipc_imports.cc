#include "runtime/ipc_imports.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "driver/scrap.h"
#include "driver/synchronize.h"
#include "tier/slow_memory.h"

namespace gpuroom {

ImportTable::Place ImportTable::FindOpened(const CUipcMemHandle& handle, CUcontext context) {
  return std::find_if(opened_.begin(), opened_.end(), [&](const Opened& opened) {
    return opened.context == context && std::memcmp(&opened.handle, &handle, sizeof handle) == 0;
  });
}

ImportTable::Place ImportTable::FindOpened(CUdeviceptr va) {
  return std::find_if(opened_.begin(), opened_.end(), [va](const Opened& opened) { return opened.va == va; });
}

CUdeviceptr ImportTable::Join(const CUipcMemHandle& handle, CUcontext context) {
  std::unique_lock lock(mutex_);
  for (;;) {
    const Place found = FindOpened(handle, context);
    if (found == opened_.end()) break;
    if (!found->busy) {
      ++found->references;
      return found->va;
    }
    changed_.wait(lock);
  }
  Opened& opened = opened_.emplace_back();
  opened.handle = handle;
  opened.context = context;
  return 0;
}

void ImportTable::Publish(const CUipcMemHandle& handle, CUcontext context, Import import) {
  const std::lock_guard lock(mutex_);
  const Place opened = FindOpened(handle, context);
  opened->range = import.range->va;
  opened->va = import.range->address();
  SlowMemory::Add(import.range->bytes);
  ranges_.Insert(std::move(import.range));
  opened->references = 1;
  opened->busy = false;
  opened->socket = std::move(import.socket);
  changed_.notify_all();
}

void ImportTable::GiveUp(const CUipcMemHandle& handle, CUcontext context) {
  const std::lock_guard lock(mutex_);
  opened_.erase(FindOpened(handle, context));
  changed_.notify_all();
}

Status ImportTable::Leave(CUdeviceptr va, Import* out) {
  const Status none(Code::kNotFound, "no handle was opened here");
  if (va == 0 || !ranges_.MayHold(va)) return none;
  std::unique_lock lock(mutex_);
  Place opened = FindOpened(va);
  while (opened != opened_.end() && opened->busy) {
    changed_.wait(lock);
    opened = FindOpened(va);
  }
  if (opened == opened_.end()) return none;
  if (opened->references > 1) {
    --opened->references;
    return Status();
  }
  opened->busy = true;
  out->range = ranges_.Take(opened->range);
  SlowMemory::Remove(out->range->bytes);
  out->socket = std::move(opened->socket);
  out->used = true;
  return Status();
}

void ImportTable::Restore(Import import) {
  const std::lock_guard lock(mutex_);
  const Place opened = FindOpened(import.range->address());
  SlowMemory::Add(import.range->bytes);
  ranges_.Insert(std::move(import.range));
  opened->busy = false;
  opened->socket = std::move(import.socket);
  changed_.notify_all();
}

void ImportTable::Finish(CUdeviceptr va) {
  const std::lock_guard lock(mutex_);
  opened_.erase(FindOpened(va));
  changed_.notify_all();
}

std::vector<Import> ImportTable::TakeAll(CUdevice device) {
  std::vector<Import> taken;
  const std::lock_guard lock(mutex_);
  for (std::unique_ptr<Range>& range : ranges_.TakeAll(device)) {
    const Place opened = FindOpened(range->address());
    SlowMemory::Remove(range->bytes);
    taken.push_back({std::move(range), std::move(opened->socket), true});
    opened_.erase(opened);
  }
  return taken;
}

Status ImportTable::Unmap(Import& import) {
  Range& range = *import.range;
  if (range.mapped == 0) return Status();
  // Unmapping itself does not wait (docs/driver-notes.md).
  const Status status = import.used ? SynchronizeContext(driver_, range.context) : Status();
  if (!status.ok()) return status;
  const CUresult result = driver_.MemUnmap(range.va, range.mapped);
  if (result == CUDA_SUCCESS) range.mapped = 0;
  return DriverStatus(result, "cuMemUnmap");
}

bool ImportTable::GiveBack(Import& import) {
  if (!Unmap(import).ok()) return false;
  Range& range = *import.range;
  while (!range.chunks.empty()) {
    if (driver_.MemRelease(range.chunks.back().handle) != CUDA_SUCCESS) return false;
    range.chunks.pop_back();
  }
  if (range.va != 0 && driver_.MemAddressFree(range.va, range.bytes) != CUDA_SUCCESS) return false;
  range.va = 0;
  return true;
}

void ImportTable::Discard(Import import) {
  if (!captures_.Any() && GiveBack(import)) return;
  KeepScrap([this, kept = std::make_shared<Import>(std::move(import))] {
    return !captures_.Any() && GiveBack(*kept);
  });
}

}  // namespace gpuroom
