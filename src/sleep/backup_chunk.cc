#include "sleep/backup_chunk.h"

#include "driver/scrap.h"

namespace gpuroom {

Status BackupChunk::ShowTogether(const std::vector<BackupChunk*>& chunks) {
  if (chunks.empty()) return Status();
  std::vector<Chunk> shown;
  shown.reserve(chunks.size());
  for (const BackupChunk* chunk : chunks) shown.push_back(chunk->chunk_);
  HostViews& views = chunks.front()->tier_.views();
  const CUdevice device = chunks.front()->device_;
  const Status status = views.Show(shown, device);
  if (!status.ok()) return status;
  for (BackupChunk* chunk : chunks) chunk->va_ = views.Find(chunk->chunk_, device);
  return Status();
}

void BackupChunk::Forget() {
  tier_.EndLoan(chunk_.bytes);
  owned_ = false;
}

BackupChunk::~BackupChunk() {
  if (!owned_) return;
  GiveBack([&tier = tier_, chunk = chunk_] { return tier.Release(chunk).ok(); });
  tier_.EndLoan(chunk_.bytes);  // after it is kept again, or as much would be created meanwhile
}

}  // namespace gpuroom
