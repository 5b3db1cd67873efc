// A device for the pool's tests: streams whose work runs late, and events. No memory is
// behind it. It knows exactly what is ordered after what, and so tells at once
// when memory is used again too early: each use is a point on a stream, each stream a clock of the
// points that it is known to come after.
//
// Every driver and source call can be made to fail by its number. Calls may come from several threads.
#pragma once

#include <cuda.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string_view>
#include <vector>

#include "driver/driver.h"

namespace gpuroom {

class FakeDevice {
 public:
  using Clock = std::map<int, uint64_t>;  // stream: its points up to this one
  struct Event {
    bool recorded = false;
    bool captured = false;
    Clock after;
  };
  struct Use {
    CUdeviceptr from;
    CUdeviceptr to;
    int stream;
    uint64_t point;
    uint64_t owner;
  };

  static FakeDevice*& Current() {
    static FakeDevice* device = nullptr;
    return device;
  }
  FakeDevice() { Current() = this; }

  Driver MakeDriver();

  // Work on `stream` by `owner`, an allocation. Fails the test where another owner's use is not over by then.
  void Work(CUdeviceptr va, uint64_t bytes, CUstream stream, uint64_t owner) {
    const std::lock_guard lock(mutex_);
    const int s = Index(stream);
    for (const Use& use : uses_) {
      if (use.from >= va + bytes || va >= use.to || use.owner == owner) continue;
      if (use.point <= known_[use.stream] || use.point <= clocks_[s][use.stream]) continue;
      ADD_FAILURE() << "0x" << std::hex << va << " used on stream " << s << " while stream " << use.stream
                    << " may still use it";
    }
    std::erase_if(uses_, [this](const Use& use) { return use.point <= known_[use.stream]; });
    uses_.push_back({va, va + bytes, s, Submit(s), owner});
  }
  // The program makes `after` wait for what `before` has now.
  void Wait(CUstream after, CUstream before) {
    const std::lock_guard lock(mutex_);
    Merge(&clocks_[Index(after)], clocks_[Index(before)]);
  }
  void ExpectUnused(CUdeviceptr va, uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    for (const Use& use : uses_) {
      const bool over = use.point <= known_[use.stream];
      EXPECT_TRUE(over || use.from >= va + bytes || va >= use.to)
          << "a segment destroyed while stream " << use.stream << " may still use it";
    }
  }
  // Lets the point that is next on the stream run where what it waits for has run.
  void Step(unsigned random) {
    const std::lock_guard lock(mutex_);
    if (clocks_.empty()) return;
    auto chosen = std::next(clocks_.begin(), random % clocks_.size());
    RunTo(chosen->first, done_[chosen->first] + 1);
  }
  void RunAll() {
    const std::lock_guard lock(mutex_);
    for (const auto& [stream, last] : last_) RunTo(stream, last);
  }

  void BeginCapture(CUstream stream) { capturing_.insert(Index(stream)); }
  void EndCapture(CUstream stream) { capturing_.erase(Index(stream)); }
  int broken_captures = 0;
  int dead_handles = 0;
  std::set<CUstream> dead;

  // The call of this number from now fails, and `more` after it; 0: none. calls(): since then.
  void FailCall(uint64_t number, uint64_t more = 0) {
    fail_at_ = number;
    fail_to_ = number + more;
    calls_ = 0;
  }
  uint64_t calls() const { return calls_; }
  bool Fails() {
    const uint64_t call = ++calls_;
    return fail_at_ != 0 && call >= fail_at_ && call <= fail_to_;
  }
  size_t live_events() const { return events_.size(); }
  std::map<std::string_view, int> count;

 private:
  friend struct FakeCalls;

  // 0 and 1 are the legacy stream; 2 is the calling thread's.
  static int Index(CUstream stream) {
    static std::atomic<int> threads{0};
    static thread_local int mine = -1 - ++threads;
    const auto handle = reinterpret_cast<uintptr_t>(stream);
    if (handle == 2) return mine;
    return handle <= 1 ? 1 : static_cast<int>(handle);
  }
  uint64_t Submit(int stream) {
    const uint64_t point = ++last_[stream];
    clocks_[stream][stream] = point;
    waits_[{stream, point}] = clocks_[stream];
    return point;
  }
  void RunTo(int stream, uint64_t point) {
    while (done_[stream] < std::min(point, last_[stream])) {
      const uint64_t next = done_[stream] + 1;
      const Clock waits = waits_[{stream, next}];
      for (const auto& [other, until] : waits) {
        if (other != stream) RunTo(other, until);
      }
      done_[stream] = next;
      waits_.erase({stream, next});
    }
  }
  bool Done(const Clock& clock) {
    return std::all_of(clock.begin(), clock.end(),
                       [this](const auto& e) { return e.second <= done_[e.first]; });
  }
  static void Merge(Clock* into, const Clock& from) {
    for (const auto& [stream, point] : from) (*into)[stream] = std::max((*into)[stream], point);
  }
  bool Breaks(bool relaxed_helps) {
    if (capturing_.empty() || (relaxed_helps && mode_ == CU_STREAM_CAPTURE_MODE_RELAXED)) return false;
    ++broken_captures;
    return true;
  }

  std::recursive_mutex mutex_;
  std::map<int, uint64_t> last_;
  std::map<int, uint64_t> done_;
  std::map<int, uint64_t> known_;  // what the host was told
  std::map<int, Clock> clocks_;
  std::map<std::pair<int, uint64_t>, Clock> waits_;
  std::vector<Use> uses_;
  std::map<CUevent, Event> events_;
  std::set<int> capturing_;
  uintptr_t next_event_ = 0;
  uint64_t fail_at_ = 0;
  uint64_t fail_to_ = 0;
  std::atomic<uint64_t> calls_{0};
  static inline thread_local CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_GLOBAL;
};

// The driver's functions: plain pointers, so they find the device by Current().
struct FakeCalls {
  static CUresult Enter(FakeDevice& device, const char* name, CUstream stream = nullptr) {
    ++device.count[name];
    if (device.dead.contains(stream)) {
      ++device.dead_handles;
      return CUDA_ERROR_INVALID_HANDLE;
    }
    return device.Fails() ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
  }
#define FAKE_ENTER(name, ...)                                 \
  FakeDevice& device = *FakeDevice::Current();                \
  const std::lock_guard lock(device.mutex_);                  \
  const CUresult failed = Enter(device, name, ##__VA_ARGS__); \
  if (failed != CUDA_SUCCESS) return failed

  static CUresult EventCreate(CUevent* out, unsigned) {
    FAKE_ENTER("EventCreate");
    *out = reinterpret_cast<CUevent>(++device.next_event_);
    device.events_[*out] = {};
    return CUDA_SUCCESS;
  }
  static CUresult EventDestroy(CUevent event) {
    FAKE_ENTER("EventDestroy");
    return device.events_.erase(event) == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  }
  static CUresult EventRecord(CUevent event, CUstream stream) {
    FAKE_ENTER("EventRecord", stream);
    const int s = FakeDevice::Index(stream);
    FakeDevice::Event& to = device.events_.at(event);
    to.recorded = true;
    to.captured = device.capturing_.contains(s);
    if (to.captured) return CUDA_SUCCESS;
    device.Submit(s);
    to.after = device.clocks_[s];
    return CUDA_SUCCESS;
  }
  static CUresult EventQuery(CUevent event) {
    FAKE_ENTER("EventQuery");
    const FakeDevice::Event& asked = device.events_.at(event);
    if (asked.captured) ++device.broken_captures;
    if (device.Breaks(true)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (!device.Done(asked.after)) return CUDA_ERROR_NOT_READY;
    FakeDevice::Merge(&device.known_, asked.after);
    return CUDA_SUCCESS;
  }
  static CUresult StreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    FAKE_ENTER("StreamWaitEvent", stream);
    const int s = FakeDevice::Index(stream);
    if (device.capturing_.contains(s) || device.events_.at(event).captured) ++device.broken_captures;
    FakeDevice::Merge(&device.clocks_[s], device.events_.at(event).after);
    return CUDA_SUCCESS;
  }
  static CUresult StreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
    FAKE_ENTER("StreamIsCapturing", stream);
    const bool capturing = device.capturing_.contains(FakeDevice::Index(stream));
    *status = capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
  }
  static CUresult StreamSynchronize(CUstream stream) {
    FAKE_ENTER("StreamSynchronize", stream);
    if (device.Breaks(true)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    const int s = FakeDevice::Index(stream);
    device.RunTo(s, device.last_[s]);
    FakeDevice::Merge(&device.known_, device.clocks_[s]);
    return CUDA_SUCCESS;
  }
  static CUresult CtxSynchronize() {
    FAKE_ENTER("CtxSynchronize");
    if (device.Breaks(false)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    device.RunAll();
    device.known_ = device.done_;
    return CUDA_SUCCESS;
  }
  static CUresult ThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
    FAKE_ENTER("ThreadExchangeStreamCaptureMode");
    std::swap(*mode, FakeDevice::mode_);
    return CUDA_SUCCESS;
  }
#undef FAKE_ENTER
};

inline Driver FakeDevice::MakeDriver() {
  Driver driver;
  driver.EventCreate = FakeCalls::EventCreate;
  driver.EventDestroy = FakeCalls::EventDestroy;
  driver.EventRecord = FakeCalls::EventRecord;
  driver.EventQuery = FakeCalls::EventQuery;
  driver.StreamWaitEvent = FakeCalls::StreamWaitEvent;
  driver.StreamIsCapturing = FakeCalls::StreamIsCapturing;
  driver.StreamSynchronize = FakeCalls::StreamSynchronize;
  driver.CtxSynchronize = FakeCalls::CtxSynchronize;
  driver.ThreadExchangeStreamCaptureMode = FakeCalls::ThreadExchangeStreamCaptureMode;
  return driver;
}

inline CUstream Stream(uintptr_t number) { return reinterpret_cast<CUstream>(number); }

}  // namespace gpuroom
