// Machine: what the processes on one simulated machine use of its memory together. Processes whose
// GPUROOM_SIM_MACHINE names the same file are on one machine; a process without it is alone on its own.
//
// The file has a row of counters for each process. A row belongs to whoever holds the kernel's lock on it, so
// what a killed process used comes back by that alone. Places have their shared names (State::SharedName).
// All under the State's lock; another process is waited for while it changes a counter.
#pragma once

#include <cstdint>

namespace gpuroom::sim {

class Machine {
 public:
  enum class Role {
    kUser,     // has a row
    kOnlooker  // sees the others' rows
  };

  Machine() = default;
  ~Machine() { Close(); }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Joins the processes that share the file `path`, which is made where it is missing. Null or "": stays
  // alone. False: the file cannot be used, or has no row left.
  bool Join(const char* path, Role role);
  // For the child after fork(), which has used nothing: its parent's row is no longer kept alive by it.
  void Close();

  // Adds to what this process uses of a place, if all processes together then use at most `capacity`.
  bool Add(int place, uint64_t bytes, uint64_t capacity);
  void Remove(int place, uint64_t bytes);
  // Bytes that this process has added and not removed.
  uint64_t Own(int place) const;
  // Bytes that the driver takes for this process's contexts: the others see them, and Own leaves them out.
  void SetContextBytes(int place, uint64_t bytes);
  // Bytes that the other processes use.
  uint64_t Others(int place) const;

 private:
  static constexpr int kRows = 256;
  static constexpr int kCounters = 32;  // 16 GPUs, then 16 host nodes

  bool TakeRow();
  bool Lock(short type, int command, int64_t byte) const;
  bool IsTaken(int row) const;
  bool Write(int column, uint64_t bytes);

  int fd_ = -1;
  int row_ = -1;
  uint64_t own_[kCounters] = {};
  uint64_t context_bytes_[kCounters] = {};
};

}  // namespace gpuroom::sim
