#include "stream.h"

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "capture.h"
#include "report.h"

namespace gpuroom::sim {
namespace {

// Streams with work, and the executor's own thread.
struct Executor {
  std::vector<CUstream> active;
  uint64_t next_ticket = 0;
  bool thread_started = false;
  bool host_wanted = false;  // somebody waits for a host function
  Clock::time_point last_submit{};
  std::chrono::microseconds idle{1000};
  Executor() {
    if (const char* text = std::getenv("GPUROOM_SIM_IDLE_US")) {
      idle = std::chrono::microseconds(std::strtoul(text, nullptr, 10));
    }
  }
};
Executor& GetExecutor() {
  static auto* executor = new Executor;
  return *executor;
}

enum class Readiness { kReady, kHostOnly, kBlocked };

bool BarrierOpen(const CUstream_st& stream, uint64_t ticket) {
  if (!stream.blocking()) return true;
  for (const CUstream other : GetExecutor().active) {
    if (other == &stream || other->context != stream.context || !other->blocking()) continue;
    if (!stream.legacy && !other->legacy) continue;
    if (!other->queue.empty() && other->queue.front().ticket < ticket) return false;
  }
  return true;
}

Readiness HeadReadiness(CUstream_st& stream) {
  if (stream.busy || stream.queue.empty()) return Readiness::kBlocked;
  Operation& head = stream.queue.front();
  if (head.wait != nullptr && !head.wait->done) return Readiness::kBlocked;
  if (!BarrierOpen(stream, head.ticket)) return Readiness::kBlocked;
  if (head.spin_ns > 0 && head.until != Clock::time_point{} && Clock::now() < head.until) {
    return Readiness::kBlocked;
  }
  return head.host ? Readiness::kHostOnly : Readiness::kReady;
}

void Finish(CUstream stream) {
  const MarkPtr record = stream->queue.front().record;
  stream->queue.pop_front();
  if (record != nullptr) {
    record->done = true;
    record->when = Clock::now();
  }
  if (stream->queue.empty()) {
    std::erase(GetExecutor().active, stream);
    if (stream->destroyed) delete stream;
  }
  GetState().progress.notify_all();
}

void RunHead(Lock& lock, CUstream stream) {
  Operation& head = stream->queue.front();
  if (head.spin_ns > 0 && head.until == Clock::time_point{}) {
    head.until = Clock::now() + std::chrono::nanoseconds(head.spin_ns);
    GetState().progress.notify_all();  // sleepers have a new time to wake at
    return;
  }
  if (head.host) {
    const std::function<void()> host = head.host;
    stream->busy = true;
    lock.unlock();
    GetThread().in_host_function = true;
    host();
    GetThread().in_host_function = false;
    lock.lock();
    stream->busy = false;
    if (!stream->queue.empty()) Finish(stream);
    return;
  }
  CUresult result = CUDA_SUCCESS;
  if (head.work && stream->context->sticky == CUDA_SUCCESS) result = head.work();
  if (result != CUDA_SUCCESS) {
    NoteMisuse("work on a stream failed: " + std::string(ResultNameOr(result)));
    for (const CUcontext context : GetState().contexts) {  // of every device
      context->sticky = result;
      AbandonWork(context);
    }
    return;
  }
  Finish(stream);
}

bool Step(Lock& lock, bool may_host) {
  Executor& executor = GetExecutor();
  static auto* ready = new std::vector<CUstream>;
  ready->clear();
  for (const CUstream stream : executor.active) {
    const Readiness readiness = HeadReadiness(*stream);
    if (readiness == Readiness::kReady || (may_host && readiness == Readiness::kHostOnly)) {
      ready->push_back(stream);
    } else if (readiness == Readiness::kHostOnly) {
      executor.host_wanted = true;
      GetState().progress.notify_all();
    }
  }
  if (ready->empty()) return false;
  const size_t pick = ready->size() == 1 ? 0 : GetState().random() % ready->size();
  RunHead(lock, (*ready)[pick]);
  return true;
}

// Sleeps until something changes or the next spin ends.
void Sleep(Lock& lock) {
  Clock::time_point wake = Clock::now() + std::chrono::milliseconds(20);
  for (const CUstream stream : GetExecutor().active) {
    const Operation& head = stream->queue.front();
    if (head.until != Clock::time_point{}) wake = std::min(wake, head.until);
  }
  GetState().progress.wait_until(lock, wake);
}

template <typename Done>
void RunUntil(Lock& lock, Done done) {
  while (!done()) {
    if (Step(lock, false)) {
      lock.unlock();  // let others in between operations
      lock.lock();
    } else if (!done()) {
      Sleep(lock);
    }
  }
}

void ExecutorThread() {
  Executor& executor = GetExecutor();
  State& state = GetState();
  Lock lock(state.mutex);
  while (true) {
    if (executor.active.empty()) {
      state.progress.wait(lock);
      continue;
    }
    const Clock::time_point due = executor.last_submit + executor.idle;
    if (!executor.host_wanted && Clock::now() < due) {
      state.progress.wait_until(lock, due);
      continue;
    }
    executor.host_wanted = false;
    if (Step(lock, true)) {
      lock.unlock();
      std::this_thread::yield();
      lock.lock();
    } else {
      Sleep(lock);
    }
  }
}

}  // namespace

CUresult ResolveStream(CUstream handle, CUstream* stream) {
  State& state = GetState();
  const bool per_thread =
      handle == CU_STREAM_PER_THREAD || (handle == nullptr && GetThread().per_thread_default);
  if (handle != nullptr && handle != CU_STREAM_LEGACY && handle != CU_STREAM_PER_THREAD) {
    if (!state.streams.contains(handle)) return CUDA_ERROR_INVALID_HANDLE;
    *stream = handle;
    return CUDA_SUCCESS;
  }
  const CUcontext context = GetThread().contexts.empty() ? nullptr : GetThread().contexts.back();
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  CUstream& slot = per_thread ? context->per_thread[GetThread().id] : context->legacy;
  if (slot == nullptr) {
    slot = NewStream(context, CU_STREAM_DEFAULT, 0);
    slot->legacy = !per_thread;
    slot->per_thread = per_thread;
    state.streams.erase(slot);  // no handle of the program's
  }
  *stream = slot;
  return CUDA_SUCCESS;
}

CUstream NewStream(CUcontext context, unsigned flags, int priority) {
  auto* stream = new CUstream_st;
  stream->context = context;
  stream->flags = flags;
  stream->priority = priority;
  stream->id = GetState().NextId();
  GetState().streams.insert(stream);
  return stream;
}

void DestroyStream(CUstream stream) {
  GetState().streams.erase(stream);
  stream->destroyed = true;
  if (stream->queue.empty()) delete stream;
}

void Enqueue(CUstream stream, Operation operation) {
  Executor& executor = GetExecutor();
  operation.ticket = ++executor.next_ticket;
  if (stream->queue.empty()) executor.active.push_back(stream);
  stream->queue.push_back(std::move(operation));
  executor.last_submit = Clock::now();
  if (!executor.thread_started) {
    executor.thread_started = true;
    std::thread(ExecutorThread).detach();
  } else if (executor.active.size() == 1 && stream->queue.size() == 1) {
    GetState().progress.notify_all();
  }
}

CUresult Submit(CUstream stream, Operation operation) {
  bool captured = false;
  const CUresult result = CaptureOperation(stream, operation, &captured);
  if (result != CUDA_SUCCESS || captured) return result;
  Enqueue(stream, std::move(operation));
  return CUDA_SUCCESS;
}

CUresult DrainStream(Lock& lock, CUstream stream) {
  // Work that came before this call; others may go on adding.
  const CUcontext context = stream->context;
  if (!stream->queue.empty() || stream->legacy) {
    const auto mark = std::make_shared<Mark>();
    Operation last;
    last.record = mark;
    Enqueue(stream, std::move(last));
    WaitForMark(lock, mark);
  }
  return context->sticky;
}

CUresult DrainContext(Lock& lock, CUcontext context) {
  const uint64_t upto = GetExecutor().next_ticket;
  RunUntil(lock, [&] {
    return std::none_of(GetExecutor().active.begin(), GetExecutor().active.end(), [&](CUstream stream) {
      return stream->context == context && stream->queue.front().ticket <= upto;
    });
  });
  return context->sticky;
}

void WaitForMark(Lock& lock, const MarkPtr& mark) {
  RunUntil(lock, [&] { return mark->done; });
}

bool StepOne(Lock& lock) { return Step(lock, false); }

void AbandonWork(CUcontext context) {
  const std::vector<CUstream> active = GetExecutor().active;
  for (const CUstream stream : active) {
    if (stream->context != context) continue;
    const size_t keep = stream->busy ? 1 : 0;
    while (stream->queue.size() > keep) {
      const MarkPtr record = stream->queue.back().record;
      stream->queue.pop_back();
      if (record != nullptr) record->done = true;
    }
    if (stream->queue.empty()) {
      std::erase(GetExecutor().active, stream);
      if (stream->destroyed) delete stream;
    }
  }
  GetState().progress.notify_all();
}

}  // namespace gpuroom::sim
