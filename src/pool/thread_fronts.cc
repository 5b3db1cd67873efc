#include "pool/thread_fronts.h"

namespace gpuroom {

__thread FrontSlot front_slots[kFrontSlots] __attribute__((tls_model("initial-exec"))) = {};

namespace {

std::atomic<uint64_t> next_serial{1};

__thread bool thread_ended = false;

// A thread's caches, of all pools.
struct ThreadCaches {
  struct Entry {
    uint64_t serial;
    std::shared_ptr<FrontCache> cache;
  };
  std::vector<Entry> entries;

  ~ThreadCaches() {
    thread_ended = true;
    for (FrontSlot& slot : front_slots) slot = {};
    for (const Entry& entry : entries) entry.cache->Leave();
  }
};

ThreadCaches& Mine() {
  static thread_local ThreadCaches caches;
  return caches;
}

}  // namespace

Fronts::Fronts(Central& central)
    : serial_(next_serial.fetch_add(1, std::memory_order_relaxed)),
      central_(central),
      for_ending_(&central) {}

Fronts::~Fronts() {
  const MutexLock lock(mutex_);
  for (const auto& cache : caches_) cache->Detach();
}

FrontCache& Fronts::LocalSlow() {
  if (thread_ended) return for_ending_;
  FrontSlot& slot = front_slots[serial_ % kFrontSlots];
  auto& entries = Mine().entries;
  for (const auto& entry : entries) {
    if (entry.serial != serial_) continue;
    slot = {serial_, entry.cache.get()};
    return *entry.cache;
  }
  std::erase_if(entries, [](const auto& entry) { return entry.cache->detached(); });
  auto cache = std::make_shared<FrontCache>(&central_);
  entries.push_back({serial_, cache});
  slot = {serial_, cache.get()};
  const MutexLock lock(mutex_);
  DropLeft();
  caches_.push_back(cache);
  return *cache;
}

void Fronts::DropLeft() {
  std::erase_if(caches_, [this](const auto& cache) {
    if (!cache->left()) return false;
    cache->AddTo(&left_);
    return true;
  });
}

Block* Fronts::TakeAll() {
  const MutexLock lock(mutex_);
  DropLeft();
  Block* chain = for_ending_.TakeAll();
  for (const auto& cache : caches_) {
    Block* more = cache->TakeAll();
    if (more == nullptr) continue;
    Block* last = more;
    while (last->next_held != nullptr) last = last->next_held;
    last->next_held = chain;
    chain = more;
  }
  return chain;
}

FrontStats Fronts::Stats() const {
  const MutexLock lock(mutex_);
  FrontStats stats = left_;
  for_ending_.AddTo(&stats);
  for (const auto& cache : caches_) cache->AddTo(&stats);
  return stats;
}

}  // namespace gpuroom
