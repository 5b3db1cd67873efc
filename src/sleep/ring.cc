#include "sleep/ring.h"

#include <algorithm>

#include "driver/insist.h"
#include "driver/scrap.h"

namespace gpuroom {
namespace {

constexpr uint64_t kMostBuffers = 16;
constexpr size_t kMostThreads = 8;

}  // namespace

Ring::~Ring() {
  if (stream_ != nullptr) {
    Insist([&] { return driver_.StreamSynchronize(stream_); });
    Insist([&] { return driver_.StreamDestroy(stream_); });
  }
  for (const Buffer& buffer : buffers_) {
    if (buffer.copied != nullptr) Insist([&] { return driver_.EventDestroy(buffer.copied); });
  }
  if (data_ == nullptr) return;
  GiveBack([&driver = driver_, &host = host_, data = data_, claimed = claimed_] {
    if (driver.MemFreeHost(data) != CUDA_SUCCESS) return false;
    host.ReleaseOther(claimed);
    return true;
  });
}

Status Ring::Open(uint64_t bytes) {
  uint64_t want = bytes <= kSliceBytes ? bytes : RoundUp(bytes, kSliceBytes);
  want = std::min(want, kMostBuffers * kSliceBytes);
  Status status = Allocate(want);
  while (status.code() == Code::kOutOfMemory && want > kSliceBytes) {
    want = RoundUp(want / 2, kSliceBytes);
    status = Allocate(want);
  }
  if (status.ok()) status = MakeBuffers();
  if (!status.ok()) return status;
  const size_t cores = std::max(1U, std::thread::hardware_concurrency());
  workers_.Start(std::min({cores, kMostThreads, buffers_.size()}), buffers_.size());
  return Status();
}

Status Ring::Allocate(uint64_t bytes) {
  const bool claimed = host_.ClaimOther(bytes);
  if (!claimed && bytes > kSliceBytes) return {Code::kOutOfMemory, "the host budget is used up"};
  const CUresult result = driver_.MemHostAlloc(&data_, bytes, CU_MEMHOSTALLOC_PORTABLE);
  if (result != CUDA_SUCCESS) {
    data_ = nullptr;
    if (claimed) host_.ReleaseOther(bytes);
    return DriverStatus(result, "cuMemHostAlloc for copies");
  }
  bytes_ = bytes;
  claimed_ = claimed ? bytes : 0;
  return Status();
}

Status Ring::MakeBuffers() {
  const CUresult made = driver_.StreamCreate(&stream_, CU_STREAM_NON_BLOCKING);
  if (made != CUDA_SUCCESS) {
    stream_ = nullptr;
    return DriverStatus(made, "cuStreamCreate");
  }
  const size_t count = SlicesOf(bytes_);
  buffers_.reserve(count);
  free_.reserve(count);
  flying_.Reset(count);
  for (uint64_t at = 0; at < bytes_; at += kSliceBytes) {
    Buffer buffer{static_cast<char*>(data_) + at, nullptr, nullptr};
    const CUresult result = driver_.EventCreate(&buffer.copied, CU_EVENT_DISABLE_TIMING);
    if (result != CUDA_SUCCESS) return DriverStatus(result, "cuEventCreate");
    buffers_.push_back(buffer);
  }
  return Status();
}

void Ring::Begin(Work work) {
  free_.clear();
  for (size_t i = buffers_.size(); i-- > 0;) free_.push_back(i);
  workers_.Set([this, work](size_t i) { return work(*buffers_[i].slice, buffers_[i].data); });
}

Status Ring::Submit(size_t index, bool to_device) {
  const Buffer& buffer = buffers_[index];
  const Slice& slice = *buffer.slice;
  CUresult result = to_device ? driver_.MemcpyHtoDAsync(slice.va, buffer.data, slice.bytes, stream_)
                              : driver_.MemcpyDtoHAsync(buffer.data, slice.va, slice.bytes, stream_);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "copying a backup");
  result = driver_.EventRecord(buffer.copied, stream_);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuEventRecord");
  flying_.Push(index);
  return Status();
}

// Waits for the oldest copy.
Status Ring::Land(size_t* index) {
  *index = flying_.front();
  const CUresult result = driver_.EventSynchronize(buffers_[*index].copied);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "waiting for a copy of a backup");
  flying_.Pop();
  return Status();
}

// After a failure nothing is under way any more.
Status Ring::Settle(const Status& status) {
  if (status.ok()) return status;
  size_t index = 0;
  Status ignored;
  while (workers_.Take(true, &index, &ignored)) continue;
  Insist([&] { return driver_.StreamSynchronize(stream_); });
  flying_.Clear();
  return status;
}

Status Ring::FromDevice(const std::vector<Slice>& slices, Work work) {
  Begin(work);
  Status status;
  size_t next = 0;
  for (size_t left = slices.size(); left > 0 && status.ok();) {
    size_t index = 0;
    const bool idle = flying_.empty() && (next == slices.size() || free_.empty());
    if (workers_.Take(idle, &index, &status)) {
      free_.push_back(index);
      --left;
    } else if (next < slices.size() && !free_.empty()) {
      index = free_.back();
      free_.pop_back();
      buffers_[index].slice = &slices[next++];
      status = Submit(index, false);
    } else {
      status = Land(&index);
      if (status.ok()) workers_.Give(index);
    }
  }
  return Settle(status);
}

Status Ring::ToDevice(const std::vector<Slice>& slices, Work work) {
  Begin(work);
  Status status;
  size_t next = 0;
  for (size_t left = slices.size(); left > 0 && status.ok();) {
    size_t index = 0;
    for (; next < slices.size() && !free_.empty(); free_.pop_back()) {
      buffers_[free_.back()].slice = &slices[next++];
      workers_.Give(free_.back());
    }
    if (workers_.Take(flying_.empty(), &index, &status)) {
      if (status.ok()) status = Submit(index, true);
      continue;
    }
    status = Land(&index);
    free_.push_back(index);
    --left;
  }
  return Settle(status);
}

}  // namespace gpuroom
