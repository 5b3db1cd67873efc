// Undo: clean-up armed before the work. A step that changes the world registers
// how to take it back; success calls Dismiss, every other way out runs it.
#pragma once

#include <utility>

namespace gpuroom {

template <typename F>
class [[nodiscard]] Undo {
 public:
  explicit Undo(F action) : action_(std::move(action)) {}
  ~Undo() {
    if (armed_) action_();
  }
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  void Dismiss() { armed_ = false; }

 private:
  F action_;
  bool armed_ = true;
};

}  // namespace gpuroom
