// Actor: a process that allocates, exports, opens, fills and checks memory when it
// is told to, for the tests of memory that two processes share.
#pragma once

#include "child.h"
#include "program.h"

namespace gpuroom::shim_test {

// A handle as text, for a command line.
std::string ToHex(const CUipcMemHandle& handle);
CUipcMemHandle FromHex(const std::string& text);

// Lets this process open `more` descriptors and no further ones; 0: as many as it may.
void LimitDescriptors(uint64_t more);

class Actor {
 public:
  // What it logs goes to `log_path` where one is given.
  explicit Actor(Environment environment = {}, const std::string& log_path = "");
  ~Actor();
  Actor(const Actor&) = delete;
  Actor& operator=(const Actor&) = delete;

  // One command, one answer; "" when it has ended.
  std::string Ask(const std::string& command) const;
  // "open HANDLE": the address, or 0 with *error set.
  CUdeviceptr Open(const CUipcMemHandle& handle, std::string* error = nullptr) const;
  std::string Close(CUdeviceptr va) const { return Ask("close " + std::to_string(va)); }
  CUdeviceptr Alloc(uint64_t bytes) const { return std::stoull(Ask("alloc " + std::to_string(bytes))); }
  CUipcMemHandle Export(CUdeviceptr va) const { return FromHex(Ask("export " + std::to_string(va))); }
  std::string Free(CUdeviceptr va) const { return Ask("free " + std::to_string(va)); }
  void Fill(CUdeviceptr va, uint64_t bytes, uint64_t seed) const;
  uint64_t CountBad(CUdeviceptr va, uint64_t bytes, uint64_t seed) const;

  void Kill();
  // Returns once all of its threads stand still; kill() alone returns before.
  void Stop() const;
  void Continue() const;
  // Its exit status, once it has been told to end.
  int End();

 private:
  Child child_;
  bool running_ = true;
};

// The actor's side: does what it reads until its input ends.
int PlayActor();

}  // namespace gpuroom::shim_test
