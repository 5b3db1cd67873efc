#include "sleep/backup_room.h"

#include <algorithm>

#include "base/undo.h"
#include "driver/scrap.h"

namespace gpuroom {

// A chunk that the run fills can be mapped in its place later, so those come first.
bool BackupRoom::Take(uint64_t bytes, Backup* backup) {
  Chunk chunk;
  if (host_.TakeKeptUpTo(bytes, &chunk)) {
    backup->chunk = Adopt(chunk);
    backup->at = 0;
    backup->bytes = chunk.bytes;
    return true;
  }
  if (Left() == 0) {
    if (!host_.TakeSmallestKept(&chunk)) return false;
    open_ = Adopt(chunk);
    used_ = 0;
  }
  backup->chunk = open_;
  backup->at = used_;
  backup->bytes = std::min(bytes, Left());
  used_ += backup->bytes;
  return true;
}

std::shared_ptr<BackupChunk> BackupRoom::Adopt(const Chunk& chunk) const {
  Undo release([&] { GiveBack([&host = host_, chunk] { return host.Release(chunk).ok(); }); });
  auto adopted = std::make_shared<BackupChunk>(host_, chunk, device_);
  release.Dismiss();
  return adopted;
}

}  // namespace gpuroom
