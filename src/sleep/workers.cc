#include "sleep/workers.h"

#include <tuple>

#include "sleep/system_calls.h"

namespace gpuroom {

Workers::~Workers() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  given_changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::Start(size_t count, size_t buffers) {
  given_.Reset(buffers);
  done_.Reset(buffers);
  threads_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    std::thread thread;
    if (!System().start_thread(&thread, [this] { Run(); })) return;
    threads_.push_back(std::move(thread));
  }
}

void Workers::Set(Task task) {
  const std::lock_guard lock(mutex_);
  task_ = std::move(task);
}

void Workers::Give(size_t buffer) {
  if (threads_.empty()) {
    done_.Push({buffer, task_(buffer)});
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    given_.Push(buffer);
  }
  given_changed_.notify_one();
}

bool Workers::Take(bool wait, size_t* buffer, Status* status) {
  std::unique_lock lock(mutex_);
  if (wait) {
    done_changed_.wait(lock, [this] { return !done_.empty() || (given_.empty() && busy_ == 0); });
  }
  if (done_.empty()) return false;
  std::tie(*buffer, *status) = done_.Pop();
  return true;
}

void Workers::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    given_changed_.wait(lock, [this] { return stop_ || !given_.empty(); });
    if (given_.empty()) return;
    const size_t buffer = given_.Pop();
    ++busy_;
    lock.unlock();
    const Status status = task_(buffer);
    lock.lock();
    --busy_;
    done_.Push({buffer, status});
    done_changed_.notify_one();
  }
}

}  // namespace gpuroom
