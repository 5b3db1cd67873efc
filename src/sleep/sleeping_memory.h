// SleepingMemory: what one Placed has while it sleeps: the chunks that it had and
// where its contents are. Gives back what it holds when it goes.
#pragma once

#include <memory>
#include <vector>

#include "range/asleep.h"
#include "range/chunk_source.h"
#include "sleep/backup_chunk.h"
#include "sleep/backup_file.h"
#include "sleep/host_block.h"

namespace gpuroom {

// Contents are checked, and pass through pinned memory, in slices of this size.
inline constexpr uint64_t kSliceBytes = 8 * kMiB;
constexpr size_t SlicesOf(uint64_t bytes) { return (bytes + kSliceBytes - 1) / kSliceBytes; }

// Where a run of the contents is: in a host chunk, in ordinary memory or in a file.
struct Backup {
  // Whether the chunk holds nothing else, so that it can stand in for the memory itself.
  bool Whole() const { return chunk != nullptr && bytes == chunk->chunk().bytes; }

  uint64_t offset = 0;                 // of the run, from the first address
  uint64_t bytes = 0;                  // of it
  uint64_t at = 0;                     // where it begins in the chunk, block or file
  std::shared_ptr<BackupChunk> chunk;  // null: in the block or the file
  std::vector<uint64_t> sums;          // of each slice; none where they are not compared
};

// A chunk that the memory had. One that is `kept` still holds its contents, unmapped; of the others
// the handle means nothing.
struct Original {
  Chunk chunk;
  bool kept = false;
};

class SleepingMemory : public Asleep {
 public:
  SleepingMemory(SleepAction what, ChunkSource& from, HostTier& host_tier)
      : action(what), source(from), host(host_tier) {}
  ~SleepingMemory() override { Drop(); }

  AsleepBytes Bytes() const override;
  uint64_t BackupBytes() const override;
  // Gives the backups back, and the chunks that are kept.
  void Drop();
  // The same, when somebody else has the chunks that are kept.
  void Forget();

  const SleepAction action;
  ChunkSource& source;              // of the chunks that are kept
  HostTier& host;                   // of the backups
  uint64_t bytes = 0;               // of all contents
  std::vector<Original> originals;  // in address order
  std::vector<Backup> backups;      // in address order, without overlap
  std::unique_ptr<HostBlock> block;
  std::unique_ptr<FileSpan> file;
};

// A slice of a backup, and where its contents are or go to on the device.
struct Slice {
  CUdeviceptr va = 0;
  uint64_t bytes = 0;
  uint64_t at = 0;  // from the backup's beginning
  SleepingMemory* memory = nullptr;
  Backup* backup = nullptr;
};

// Of a backup whose run's first byte is at `va`, appended to `out`.
void CutSlices(SleepingMemory& memory, Backup& backup, CUdeviceptr va, std::vector<Slice>* out);

uint64_t BytesOf(const std::vector<Slice>& slices);

// What is done to a slice whose contents are at `data`. Store and Load keep and compare checksums
// where the backup has any. Several slices at once, by several threads.
Status StoreSlice(const Slice& slice, char* data);
Status LoadSlice(const Slice& slice, char* data);
Status SumSlice(const Slice& slice, char* data);
Status CheckSlice(const Slice& slice, char* data);

}  // namespace gpuroom
