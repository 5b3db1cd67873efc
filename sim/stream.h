// Streams and the executor: work is queued when it is called and runs late.
//
// An operation is ready when it heads its stream, the legacy default stream's
// barrier lets it through and what it waits for is done. Among the ready ones
// the State's seeded generator picks. A synchronising call runs operations until
// its own are done; a thread of the executor's own runs them after a short idle
// time, and alone runs host functions, so that these never run on a thread that
// holds the program's locks. All under the State's lock but for host functions.
#pragma once

#include <cuda.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "state.h"

namespace gpuroom::sim {

using Clock = std::chrono::steady_clock;

// A point in a stream, reached or not; what an event's last record left.
struct Mark {
  bool done = false;
  Clock::time_point when{};
};
using MarkPtr = std::shared_ptr<Mark>;

struct Operation {
  CUgraphNodeType kind = CU_GRAPH_NODE_TYPE_EMPTY;
  std::function<CUresult()> work;  // with the lock; not success: the context's sticky error
  std::function<void()> host;      // without the lock, on the executor's thread
  MarkPtr wait;                    // not ready before this is done
  MarkPtr record;                  // done after this ran
  uint64_t spin_ns = 0;            // takes so long, and holds nobody up
  Clock::time_point until{};       // when a spin that began ends
  uint64_t ticket = 0;             // order of submission over all streams
};

struct Capture;

}  // namespace gpuroom::sim

struct CUstream_st {
  CUcontext context = nullptr;
  unsigned flags = 0;
  int priority = 0;
  bool legacy = false;
  bool per_thread = false;
  uint64_t id = 0;
  std::deque<gpuroom::sim::Operation> queue;
  bool busy = false;       // its head runs without the lock
  bool destroyed = false;  // freed once the queue is empty
  gpuroom::sim::Capture* capture = nullptr;
  std::vector<CUgraphNode> capture_tail;
  bool blocking() const { return (flags & CU_STREAM_NON_BLOCKING) == 0; }
};

struct CUevent_st {
  CUcontext context = nullptr;
  unsigned flags = 0;
  gpuroom::sim::MarkPtr mark;  // null: never recorded
  uint64_t capture_id = 0;     // the last record was in this capture; 0: in none
  std::vector<CUgraphNode> capture_tail;
};

namespace gpuroom::sim {

// Makes `*stream` the object a handle means: 0 and the special handles become
// the current context's default streams. Needs a current context for those.
CUresult ResolveStream(CUstream handle, CUstream* stream);
CUstream NewStream(CUcontext context, unsigned flags, int priority);
void DestroyStream(CUstream stream);

// Queues, or adds a node where the stream is capturing. Refuses what a capture
// forbids.
CUresult Submit(CUstream stream, Operation operation);
// The same without capture's rules.
void Enqueue(CUstream stream, Operation operation);

// Run work until the stream, the context, the mark is done. Release the lock
// between operations. Return the context's sticky error, if any.
CUresult DrainStream(Lock& lock, CUstream stream);
CUresult DrainContext(Lock& lock, CUcontext context);
void WaitForMark(Lock& lock, const MarkPtr& mark);
// Runs one ready operation; false when there was none.
bool StepOne(Lock& lock);

// Drops all queued work, as a context's end or a sticky error does.
void AbandonWork(CUcontext context);

}  // namespace gpuroom::sim
