// Returner: a thread that moves to HBM, in slices, what lies outside it and belongs there. A lazy wake
// starts it; it ends when nothing is left to move or HBM is full. Only where the hooks stand in front: each
// slice is moved in a standstill.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

namespace gpuroom {

class Runtime;

class Returner {
 public:
  // Sees to it that what is there now is moved. Any thread, within an Entry or not.
  void Start(Runtime& rt);
  // Waits for the slice that is being moved; nothing is moved afterwards. Outside of any Entry.
  void Stop();

 private:
  void Run(Runtime& rt);

  std::mutex mutex_;
  std::condition_variable stopping_;
  bool running_ = false;
  bool again_ = false;  // look once more before ending
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace gpuroom
