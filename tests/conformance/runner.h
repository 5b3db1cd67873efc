// Runs probes in worker processes, so that one which crashes, hangs or poisons
// its context costs its own answer and no other. The process that owns a Runner
// never calls the driver: workers are forked from it, and CUDA does not survive
// a fork. Single-threaded.
#pragma once

#include <sys/types.h>

#include <string>

#include "probe.h"

namespace gpuroom::conformance {

// Whether the driver at hand is the simulated one. Asked once, in a process of its own.
bool OnSimulator();

class Runner {
 public:
  explicit Runner(const ProbeList& probes) : probes_(probes) {}
  ~Runner() { StopWorker(); }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // The probe's answer. "died: ..." or "hung" if its worker did; a context that
  // no longer works afterwards adds " [context: NAME]".
  std::string Answer(size_t index);

 private:
  void StartWorker();
  void StopWorker();
  [[noreturn]] void Work(int requests, int answers);
  std::string ReadAnswer();
  std::string Died(const char* why);

  const ProbeList& probes_;
  pid_t worker_ = -1;
  int requests_ = -1;
  int answers_ = -1;
};

}  // namespace gpuroom::conformance
