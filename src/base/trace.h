// Trace: events of this process, written to a ring in a file (trace_format.h) where one was asked for. Where
// none was, an event costs one load and one branch. Where one was, some 40 ns: a clock that is read, a slot
// that is taken, 64 bytes that are written, and neither a system call nor a lock. Any thread; nothing here
// allocates.
#pragma once

#include <atomic>
#include <cstdint>
#include <initializer_list>

#include "base/clock.h"
#include "base/status.h"
#include "base/trace_format.h"

namespace gpuroom {

class Trace {
 public:
  // Makes `path`, in place of what has this name, and has events go there. Once in a process.
  static Status Start(const char* path);
  // In a child by fork: the file is the parent's.
  static void ForgetAfterFork() { header_.store(nullptr, std::memory_order_relaxed); }

  static bool on() { return header_.load(std::memory_order_relaxed) != nullptr; }
  // An event that ends now and began at `start`, of NowNanoseconds(); 0: of no length. `values` as
  // kTraceKinds names them. Does nothing where no trace is on.
  static void Add(TraceKind kind, int device, uint64_t start, std::initializer_list<uint64_t> values) {
    if (TraceHeader* header = header_.load(std::memory_order_acquire))
      Write(header, kind, device, start, values);
  }
  // For Add: the time now where a trace is on, else 0.
  static uint64_t Now() { return on() ? NowNanoseconds() : 0; }

 private:
  static void Write(TraceHeader* header, TraceKind kind, int device, uint64_t start,
                    std::initializer_list<uint64_t> values);

  static std::atomic<TraceHeader*> header_;
};

}  // namespace gpuroom
