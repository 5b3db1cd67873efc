#include "pool/pending.h"

#include <algorithm>

#include "driver/insist.h"
#include "driver/relaxed_capture.h"

namespace gpuroom {

Pending::~Pending() {
  for (auto& [key, events] : events_) {
    for (const auto& entry : events) spare_.push_back(entry.first);
  }
  for (const CUevent event : spare_) {
    Insist([&] { return driver_.EventDestroy(event); });
  }
}

void Pending::AddUse(Block* block, StreamKey key) {
  const MutexLock lock(mutex_);
  std::vector<StreamKey>& uses = uses_[block];
  if (std::find(uses.begin(), uses.end(), key) == uses.end()) uses.push_back(key);
  block->shared.store(true, std::memory_order_release);
}

std::vector<StreamKey> Pending::TakeUses(Block* block) {
  const MutexLock lock(mutex_);
  const auto found = uses_.find(block);
  if (found == uses_.end()) return {};
  std::vector<StreamKey> uses = std::move(found->second);
  uses_.erase(found);
  return uses;
}

// An answer that is none counts as yes: the legacy stream's, while a blocking one is captured.
bool Pending::Capturing(CUstream stream) const {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  return driver_.StreamIsCapturing(stream, &status) != CUDA_SUCCESS ||
         status != CU_STREAM_CAPTURE_STATUS_NONE;
}

CUevent Pending::GetEvent() {
  CUevent event = nullptr;
  if (spare_.empty()) {
    return driver_.EventCreate(&event, CU_EVENT_DISABLE_TIMING) == CUDA_SUCCESS ? event : nullptr;
  }
  event = spare_.back();
  spare_.pop_back();
  return event;
}

// An event after what the stream has now; null: not now.
CUevent Pending::Record(StreamKey key) {
  CUstream stream = nullptr;
  if (!RecordableHandle(key, &stream) || Capturing(stream)) return nullptr;
  const CUevent event = GetEvent();
  if (event == nullptr) return nullptr;
  if (driver_.EventRecord(event, stream) == CUDA_SUCCESS) return event;
  spare_.push_back(event);
  return nullptr;
}

void Pending::RecordUses(Place place) {
  std::vector<StreamKey> left;
  for (const StreamKey key : place->to_record) {
    const CUevent event = Record(key);
    if (event == nullptr) {
      left.push_back(key);
      continue;
    }
    events_[key].emplace_back(event, place);
    ++place->recorded;
  }
  place->to_record = std::move(left);
}

void Pending::Hold(Block* block, std::vector<StreamKey> uses, uint64_t freed_at, bool may_ask) {
  const MutexLock lock(mutex_);
  waiting_.push_back({block, freed_at, 0, std::move(uses)});
  bytes_.fetch_add(block->bytes, std::memory_order_relaxed);
  const Place place = std::prev(waiting_.end());
  if (may_ask) RecordUses(place);
  if (!place->to_record.empty()) some_left_ = true;
}

void Pending::RecordLeft() {
  if (!some_left_) return;
  some_left_ = false;
  for (auto place = waiting_.begin(); place != waiting_.end(); ++place) {
    if (!place->to_record.empty()) RecordUses(place);
    if (!place->to_record.empty()) some_left_ = true;
  }
}

void Pending::Finish(Place place, Block** chain) {
  bytes_.fetch_sub(place->block->bytes, std::memory_order_relaxed);
  place->block->next_held = *chain;
  *chain = place->block;
  waiting_.erase(place);
}

void Pending::AskStream(std::deque<std::pair<CUevent, Place>>& events, Block** chain) {
  while (!events.empty() && driver_.EventQuery(events.front().first) == CUDA_SUCCESS) {
    const auto [event, place] = events.front();
    events.pop_front();
    spare_.push_back(event);
    --place->recorded;
    if (place->recorded == 0 && place->to_record.empty()) Finish(place, chain);
  }
}

Block* Pending::Done() {
  Block* chain = nullptr;
  if (empty()) return chain;
  const MutexLock lock(mutex_);
  const RelaxedCapture relaxed(driver_);
  if (!relaxed) return chain;
  RecordLeft();
  for (auto entry = events_.begin(); entry != events_.end();) {
    AskStream(entry->second, &chain);
    entry = entry->second.empty() ? events_.erase(entry) : std::next(entry);
  }
  return chain;
}

// Takes back the events of blocks freed at or before `cut`, in one pass.
void Pending::ForgetEvents(uint64_t cut) {
  for (auto& [key, events] : events_) {
    for (const auto& [event, place] : events) {
      if (place->freed_at <= cut) spare_.push_back(event);
    }
    std::erase_if(events, [cut](const auto& entry) { return entry.second->freed_at <= cut; });
  }
}

Block* Pending::DoneBefore(uint64_t cut) {
  Block* chain = nullptr;
  const MutexLock lock(mutex_);
  ForgetEvents(cut);
  for (auto place = waiting_.begin(); place != waiting_.end();) {
    const auto next = std::next(place);
    if (place->freed_at <= cut) Finish(place, &chain);
    place = next;
  }
  return chain;
}

Block* Pending::DoneWith(StreamKey key, uint64_t cut) {
  Block* chain = nullptr;
  const MutexLock lock(mutex_);
  for (auto& entry : uses_) std::erase(entry.second, key);
  for (auto place = waiting_.begin(); place != waiting_.end();) {
    const auto next = std::next(place);
    if (place->freed_at <= cut) {
      std::erase(place->to_record, key);
      if (place->recorded == 0 && place->to_record.empty()) Finish(place, &chain);
    }
    place = next;
  }
  return chain;
}

bool Pending::Order(StreamKey before, CUstream after) {
  const MutexLock lock(mutex_);
  if (Capturing(after)) return false;
  const CUevent event = Record(before);
  if (event == nullptr) return false;
  const bool ordered = driver_.StreamWaitEvent(after, event, CU_EVENT_WAIT_DEFAULT) == CUDA_SUCCESS;
  spare_.push_back(event);  // a later record does not change what was waited for
  return ordered;
}

Status Pending::Synchronize(CUstream stream) {
  const RelaxedCapture relaxed(driver_);
  if (Capturing(stream)) return {Code::kBusy, "waiting for a stream that is being captured"};
  return DriverStatus(driver_.StreamSynchronize(stream), "waiting for a stream's work");
}

}  // namespace gpuroom
