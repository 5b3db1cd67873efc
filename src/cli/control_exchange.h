// Exchange: one request to one process under gpuroom, and its answer, step by step. It never waits: whoever
// drives it (control_client.cc) polls for many at once. A connection that is closed without a word is tried
// again, since a program that closed all its descriptors makes a new socket when it is asked.
#pragma once

#include <poll.h>

#include <cstdint>
#include <memory>
#include <string>

#include "cli/control_targets.h"
#include "cli/descriptor.h"

namespace gpuroom {

class Exchange {
 public:
  // `deadline` in nanoseconds of NowNanoseconds(); 0: none.
  Exchange(const ControlTarget& target, std::string request, uint64_t deadline)
      : target_(target), request_(std::move(request)), deadline_(deadline) {}

  // Goes on as far as it can without waiting.
  void Advance(uint64_t now);
  // What has to happen for it to go on: an event, or that time (0: none). Of one that is not over.
  pollfd Event() const;
  uint64_t NextTime() const;

  bool over() const { return step_ == Step::kOver; }
  // Once over: what went wrong, or else all that the process sent before it closed the connection.
  const Failure& failure() const { return failure_; }
  const std::string& answer() const { return answer_; }
  // The process listens, and the time passed without its answer.
  bool unheard() const { return unheard_; }

 private:
  enum class Step { kConnect, kSend, kReceive, kOver };

  void Connect(uint64_t now);
  void Send(uint64_t now);
  void Receive(uint64_t now);
  void TryAgain(uint64_t now);
  void End(Failure failure);
  // Nobody listens under the name.
  Failure Gone() const;

  const ControlTarget target_;
  const std::string request_;
  const uint64_t deadline_;
  Step step_ = Step::kConnect;
  std::unique_ptr<Descriptor> socket_;
  size_t sent_ = 0;
  std::string answer_;
  Failure failure_;
  uint64_t next_try_ = 0;
  uint64_t give_up_ = 0;  // trying again ends then; 0: there was no need so far
  bool met_ = false;      // the process itself has listened
  bool there_ = false;    // and somebody did when we connected last
  bool unheard_ = false;
};

// The sentence for a process that lives and does not answer.
Failure NoAnswer(pid_t pid);
// And for one that ended while it was asked.
Failure Ended(pid_t pid);

}  // namespace gpuroom
