#include "sleep/sleeping_memory.h"

#include <algorithm>
#include <cstring>

#include "driver/scrap.h"
#include "sleep/checksum.h"

namespace gpuroom {

AsleepBytes SleepingMemory::Bytes() const {
  switch (action) {
    case SleepAction::kKeep: return {bytes, 0, 0};
    case SleepAction::kDisk: return {0, bytes, 0};
    case SleepAction::kDrop: return {0, 0, bytes};
  }
  return {};
}

uint64_t SleepingMemory::BackupBytes() const {
  uint64_t sum = 0;
  for (const Backup& backup : backups) sum += file == nullptr ? backup.bytes : 0;
  return sum;
}

void SleepingMemory::Drop() {
  for (const Original& original : originals) {
    if (original.kept)
      GiveBack([&from = source, chunk = original.chunk] { return from.Release(chunk).ok(); });
  }
  Forget();
}

void SleepingMemory::Forget() {
  originals.clear();
  backups.clear();
  block.reset();
  file.reset();
}

void CutSlices(SleepingMemory& memory, Backup& backup, CUdeviceptr va, std::vector<Slice>* out) {
  for (uint64_t at = 0; at < backup.bytes; at += kSliceBytes) {
    out->push_back({va + at, std::min(kSliceBytes, backup.bytes - at), at, &memory, &backup});
  }
}

uint64_t BytesOf(const std::vector<Slice>& slices) {
  uint64_t sum = 0;
  for (const Slice& slice : slices) sum += slice.bytes;
  return sum;
}

Status StoreSlice(const Slice& slice, char* data) {
  const Status status = SumSlice(slice, data);
  if (!status.ok()) return status;
  const uint64_t at = slice.backup->at + slice.at;
  if (slice.memory->file != nullptr) return slice.memory->file->Write(data, slice.bytes, at);
  std::memcpy(slice.memory->block->data() + at, data, slice.bytes);
  return Status();
}

Status LoadSlice(const Slice& slice, char* data) {
  const uint64_t at = slice.backup->at + slice.at;
  if (slice.memory->file != nullptr) {
    const Status status = slice.memory->file->Read(data, slice.bytes, at);
    if (!status.ok()) return status;
  } else {
    std::memcpy(data, slice.memory->block->data() + at, slice.bytes);
  }
  return CheckSlice(slice, data);
}

Status SumSlice(const Slice& slice, char* data) {
  std::vector<uint64_t>& sums = slice.backup->sums;
  if (!sums.empty()) sums[slice.at / kSliceBytes] = Checksum(data, slice.bytes);
  return Status();
}

Status CheckSlice(const Slice& slice, char* data) {
  const std::vector<uint64_t>& sums = slice.backup->sums;
  if (sums.empty() || sums[slice.at / kSliceBytes] == Checksum(data, slice.bytes)) return Status();
  return {Code::kSystem, "a backup does not have its checksum any more; free this memory and load it anew"};
}

}  // namespace gpuroom
