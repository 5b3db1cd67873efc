// What the sweeps fail call by call: operations as a program performs them.
#pragma once

#include <functional>
#include <memory>

#include "shim_test.h"

namespace gpuroom::shim_test {

using Results = std::vector<CUresult>;

// An operation as a program performs it: it stops where it is refused memory, and what it
// could not give back it tries to give back again later.
class Operation {
 public:
  virtual ~Operation() = default;
  virtual void Run(Results* results) = 0;
  // Gives back what a failed Run left, with every call working.
  virtual void Finish() = 0;
  // All of it with every call working, contents too.
  virtual void Check() = 0;

 protected:
  static bool Keep(Results* results, CUresult result) {
    results->push_back(result);
    return result == CUDA_SUCCESS;
  }
  static void FillAndVerify(CUdeviceptr p, uint64_t bytes) {
    // Both ends and every border of 16 MiB: contents cost time, placement does not.
    for (uint64_t at = 0; at < bytes; at += 16 * kMiB) {
      const uint64_t from = at == 0 ? 0 : at - 4096;
      Fill(p + from, 8192, at);
    }
    Fill(p + bytes - 8192, 8192, 99);
    Verified(p, bytes);
  }
  static void Verified(CUdeviceptr p, uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += 16 * kMiB) {
      EXPECT_EQ(CountBad(p + (at == 0 ? 0 : at - 4096), 8192, at), 0u) << at;
    }
    EXPECT_EQ(CountBad(p + bytes - 8192, 8192, 99), 0u);
  }
};

class AllocAndFree : public Operation {
 public:
  explicit AllocAndFree(uint64_t bytes) : bytes_(bytes) {}
  void Run(Results* results) override {
    if (!Keep(results, Cu().MemAlloc(&p_, bytes_))) {
      p_ = 0;
      return;
    }
    if (Keep(results, Cu().MemFree(p_))) p_ = 0;
  }
  void Finish() override {
    if (p_ == 0) return;
    FillAndVerify(p_, bytes_);  // what could not be freed is whole
    EXPECT_CU(Cu().MemFree(p_));
    p_ = 0;
  }
  void Check() override {
    CUdeviceptr p = 0;
    ASSERT_CU(Cu().MemAlloc(&p, bytes_));
    FillAndVerify(p, bytes_);
    EXPECT_CU(Cu().MemFree(p));
  }

 private:
  const uint64_t bytes_;
  CUdeviceptr p_ = 0;
};

struct Case {
  friend void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }
  const char* name;
  std::function<std::unique_ptr<Operation>()> make;
  uint64_t settle_bytes = kThreshold;  // a request that has left-overs given back
};

// Operations that move memory, for the limits of sweep_moves.cc.
std::vector<Case> MoveCases();
// That put memory to sleep, and wake it lazily, for those of sweep_sleep.cc.
std::vector<Case> SleepCases();
std::vector<Case> LazyCases();

template <typename Kind, auto... kArguments>
Case MakeCase(const char* name) {
  return {name, [] { return std::make_unique<Kind>(kArguments...); }};
}

}  // namespace gpuroom::shim_test
