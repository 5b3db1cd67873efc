#include "tier/host_views.h"

#include "driver/access.h"
#include "driver/insist.h"

namespace gpuroom {
namespace {

constexpr CUdevice kClosed = -1;  // mapped, and open to no device

}  // namespace

CUdeviceptr HostViews::Find(const Chunk& chunk, CUdevice device) const {
  MutexLock lock(mutex_);
  const auto view = views_.find(chunk.handle);
  return view != views_.end() && view->second.device == device ? view->second.va : 0;
}

Status HostViews::Show(const std::vector<Chunk>& chunks, CUdevice device) {
  MutexLock lock(mutex_);
  std::vector<Chunk> missing;
  uint64_t bytes = 0;
  for (const Chunk& chunk : chunks) {
    const auto view = views_.find(chunk.handle);
    if (view != views_.end() && view->second.device == device) continue;
    const Status status = DropLocked(chunk);
    if (!status.ok()) return status;
    missing.push_back(chunk);
    bytes += chunk.bytes;
  }
  if (missing.empty()) return Status();
  const Result<std::shared_ptr<Scratch>> scratch = Scratch::Reserve(driver_, bytes);
  return scratch.ok() ? ShowAt(*scratch, missing, device) : scratch.status();
}

// A view is noted before it is mapped, so that what cannot be unmapped now is before its chunk goes.
Status HostViews::ShowAt(const std::shared_ptr<Scratch>& scratch, const std::vector<Chunk>& chunks,
                         CUdevice device) {
  Status status;
  CUdeviceptr va = scratch->va();
  for (const Chunk& chunk : chunks) {
    View& view = views_[chunk.handle] = {kClosed, 0, scratch};
    status = DriverStatus(driver_.MemMap(va, chunk.bytes, 0, chunk.handle, 0), "cuMemMap");
    if (!status.ok()) break;
    view.va = va;
    va += chunk.bytes;
  }
  if (status.ok()) status = SetAccess(driver_, scratch->va(), va - scratch->va(), uint64_t{1} << device);
  for (const Chunk& chunk : chunks) {
    if (status.ok()) {
      views_[chunk.handle].device = device;
    } else {
      TakeBack(chunk);
    }
  }
  return status;
}

void HostViews::TakeBack(const Chunk& chunk) {
  for (int tries = 0; tries < kInsist && !DropLocked(chunk).ok(); ++tries) {
  }
}

Status HostViews::Drop(const Chunk& chunk) {
  MutexLock lock(mutex_);
  return DropLocked(chunk);
}

Status HostViews::DropLocked(const Chunk& chunk) {
  const auto view = views_.find(chunk.handle);
  if (view == views_.end()) return Status();
  const bool mapped = view->second.va != 0;
  const CUresult result = mapped ? driver_.MemUnmap(view->second.va, chunk.bytes) : CUDA_SUCCESS;
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemUnmap of a host chunk's view");
  views_.erase(view);
  return Status();
}

}  // namespace gpuroom
