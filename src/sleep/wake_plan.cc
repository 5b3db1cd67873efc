// What memory will consist of after a wake: a pure function of what sleeps.
#include <algorithm>

#include "sleep/wake_up.h"

namespace gpuroom {
namespace {

class Segments {
 public:
  void Add(bool fresh, const Chunk& chunk) {
    if (all_.empty() || all_.back().fresh != fresh) all_.push_back({fresh, offset_, 0, {}});
    all_.back().bytes += chunk.bytes;
    all_.back().chunks.push_back(chunk);
    offset_ += chunk.bytes;
  }
  uint64_t offset() const { return offset_; }
  std::vector<WakeSegment> Take() { return std::move(all_); }

 private:
  std::vector<WakeSegment> all_;
  uint64_t offset_ = 0;
};

// A chunk like `original` for [from, end) of the memory; its handle is to come.
Chunk Anew(const Chunk& original, uint64_t from, uint64_t end) {
  return {0, end - from, original.tier, original.place};
}

}  // namespace

WakePlan PlanWake(const SleepingMemory& memory, uint64_t* to_copy) {
  WakePlan plan;
  for (const Backup& backup : memory.backups) {
    const bool stays = backup.Whole() && backup.bytes > *to_copy;
    if (backup.Whole() && !stays) *to_copy -= backup.bytes;
    plan.stays.push_back(stays);
  }
  Segments segments;
  size_t next = 0;  // the first backup that is not behind us
  uint64_t end = 0;
  for (const Original& original : memory.originals) {
    end += original.chunk.bytes;
    if (original.kept) segments.Add(false, original.chunk);
    // What is mapped from the backup may reach into the chunks that follow.
    while (segments.offset() < end) {
      const uint64_t from = segments.offset();
      const std::vector<Backup>& backups = memory.backups;
      while (next < backups.size() && (backups[next].offset < from || !plan.stays[next])) ++next;
      if (next < backups.size() && backups[next].offset == from) {
        segments.Add(false, backups[next].chunk->chunk());
      } else {
        const uint64_t to = next == backups.size() ? end : std::min(end, backups[next].offset);
        segments.Add(true, Anew(original.chunk, from, to));
      }
    }
  }
  plan.segments = segments.Take();
  return plan;
}

}  // namespace gpuroom
