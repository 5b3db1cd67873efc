// Workers: threads that do one thing to buffers, known by their numbers, as they are
// handed over. Without threads the caller does it.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "base/status.h"

namespace gpuroom {

class Workers {
 public:
  using Task = std::function<Status(size_t)>;

  Workers() = default;
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // As many threads as can be had, at most `count`, for `buffers` buffers: none is handed over twice at once.
  // All memory that is needed later is had here.
  void Start(size_t count, size_t buffers);
  // What is done from now on. Nothing is being done.
  void Set(Task task);
  void Give(size_t buffer);
  // A buffer that is done, and what came of it. False: none is, or with `wait` none is being done either.
  bool Take(bool wait, size_t* buffer, Status* status);

 private:
  void Run();

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable given_changed_;
  std::condition_variable done_changed_;
  // Under mutex_:
  Task task_;
  BoundedQueue<size_t> given_;
  BoundedQueue<std::pair<size_t, Status>> done_;
  size_t busy_ = 0;
  bool stop_ = false;
};

}  // namespace gpuroom
