// Each driver call and each source call of a walk fails in turn, on the simulated driver: whatever
// fails, contents are right, everything can be given back, and nothing is left behind.
#include "gpuroom_sim.h"
#include "pool/pool.h"
#include "sim_device.h"

namespace gpuroom {
namespace {

class PoolSweepTest : public SimDeviceTest {
 protected:
  struct Live {
    CUdeviceptr va;
    uint64_t bytes;
    CUstream stream;
  };
  void SetUp() override {
    SimDeviceTest::SetUp();
    a_ = NewStream();
    b_ = NewStream();
    bad_ = NewWord();
  }
  void TearDown() override {
    EXPECT_EQ(cuStreamDestroy(a_), CUDA_SUCCESS);
    EXPECT_EQ(cuStreamDestroy(b_), CUDA_SUCCESS);
    EXPECT_EQ(cuMemFree(bad_), CUDA_SUCCESS);
    char text[2048] = {};
    EXPECT_EQ(gpuroom_sim_leaks(text, sizeof text), 0) << text;
    SimDeviceTest::TearDown();
  }
  void Get(Pool& pool, uint64_t bytes, CUstream stream) {
    const Result<CUdeviceptr> va = pool.Allocate(bytes, stream);
    if (va.ok()) live_.push_back({*va, bytes, stream});
  }
  void GiveFirst(Pool& pool, CUstream stream) {
    if (live_.empty()) return;
    EXPECT_TRUE(pool.Free(live_.front().va, stream).ok());
    live_.erase(live_.begin());
  }
  void Walk(Pool& pool) {
    Get(pool, 3 << 20, a_);
    Get(pool, 3 << 20, a_);
    EXPECT_EQ(pool.RecordStream(live_.empty() ? 0 : live_.front().va, b_).ok(), !live_.empty());
    GiveFirst(pool, a_);
    GiveFirst(pool, b_);
    Get(pool, 9 << 20, b_);
    Get(pool, 4 << 20, b_);
    GiveFirst(pool, b_);
    Get(pool, 9 << 20, a_);
    Get(pool, 12 << 20, a_);
    GiveFirst(pool, a_);
    pool.Trim();
    Get(pool, 512, a_);
    (void)pool.StreamEnds(b_);
    Get(pool, 64 << 20, a_);
  }
  void ExpectWhole(Pool& pool) {
    for (const Live& block : live_) {
      Fill(block.va, block.bytes, block.va, block.stream);
      Check(block.va, block.bytes, block.va, bad_, block.stream);
      EXPECT_TRUE(pool.Free(block.va, block.stream).ok());
    }
    live_.clear();
    EXPECT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
    EXPECT_EQ(ReadWord(bad_), 0U);
    pool.Trim();
    EXPECT_EQ(pool.Stats().reserved, 0U);
    EXPECT_EQ(source_.live(), 0U);
  }
  // The calls that the driver saw during the walk, the first of which to fail is `rule`'s.
  uint64_t Run(const std::string& rule) {
    source_.SetRoom(22 << 20, 14 << 20);
    Pool pool(driver_, source_);
    gpuroom_sim_fail(rule.c_str());
    const uint64_t before = gpuroom_sim_call_count("*");
    Walk(pool);
    const uint64_t calls = gpuroom_sim_call_count("*") - before;
    gpuroom_sim_fail(nullptr);
    ExpectWhole(pool);
    return calls;
  }

  CUstream a_ = nullptr;
  CUstream b_ = nullptr;
  CUdeviceptr bad_ = 0;
  std::vector<Live> live_;
};

TEST_F(PoolSweepTest, EachFunctionsEachCall) {
  static constexpr const char* kFunctions[] = {
      "cuEventCreate",    "cuEventRecord",       "cuEventQuery", "cuStreamWaitEvent",
      "cuCtxSynchronize", "cuStreamIsCapturing", "cuMemCreate",  "cuThreadExchangeStreamCaptureMode",
      "cuEventDestroy",   "cuStreamSynchronize",
  };
  for (const char* name : kFunctions) {
    const uint64_t before = gpuroom_sim_call_count(name);
    Run("");
    const uint64_t calls = gpuroom_sim_call_count(name) - before;
    EXPECT_GT(calls, 0U) << name << " is not on the walk";
    for (uint64_t call = 1; call <= calls && !HasFailure(); ++call) {
      SCOPED_TRACE(std::string(name) + ":" + std::to_string(call));
      Run(std::string(name) + ":" + std::to_string(call) + ":CUDA_ERROR_UNKNOWN");
    }
  }
}

TEST_F(PoolSweepTest, ManyAtOnce) {
  for (int seed = 1; seed <= 40 && !HasFailure(); ++seed) {
    // The pool's functions; those that map segments put back by themselves what a failure leaves.
    std::string rules;
    for (const char* name : {"cuEventCreate", "cuEventRecord", "cuEventQuery", "cuStreamWaitEvent",
                             "cuCtxSynchronize", "cuMemCreate", "cuStreamIsCapturing"}) {
      for (int i = 0; i < 3; ++i) {
        rules += std::string(rules.empty() ? "" : ",") + name + ":" +
                 std::to_string(1 + (seed * (i + 7)) % 9) + ":CUDA_ERROR_UNKNOWN";
      }
    }
    SCOPED_TRACE(rules);
    Run(rules);
  }
}

TEST_F(PoolSweepTest, TheSourceFailsInTurn) {
  for (unsigned every = 1; every <= 12 && !HasFailure(); ++every) {
    SCOPED_TRACE("one in " + std::to_string(every));
    source_.SetRoom(22 << 20, 14 << 20);
    Pool pool(driver_, source_);
    source_.fail_one_in = every;
    Walk(pool);
    source_.fail_one_in = 0;
    ExpectWhole(pool);
  }
}

}  // namespace
}  // namespace gpuroom
