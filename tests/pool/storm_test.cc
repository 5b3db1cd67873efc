// The storm: eight threads on four streams, their own streams and the default ones, all work late. Each
// block is filled when it is had and checked before it is freed, by kernels, so that memory that is
// used again too early, or given back under them, shows. Threads come and go; blocks
// change hands; graphs are captured; the source fails now and then and has too little room.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <random>
#include <thread>

#include "gpuroom_sim.h"
#include "pool/pool.h"
#include "sim_device.h"

namespace gpuroom {
namespace {

constexpr int kThreads = 8;
constexpr int kStreams = 4;

struct Block {
  CUdeviceptr va;
  uint64_t bytes;
  uint64_t seed;
  CUstream stream;
};

class PoolStormTest : public SimDeviceTest {
 protected:
  void SetUp() override {
    SimDeviceTest::SetUp();
    for (CUstream& stream : streams_) stream = NewStream();
    for (CUdeviceptr& word : bad_) word = NewWord();
    source_.SetRoom(40 << 20, 24 << 20);
  }
  void TearDown() override {
    for (const CUdeviceptr word : bad_) EXPECT_EQ(cuMemFree(word), CUDA_SUCCESS);
    for (const CUstream stream : streams_) EXPECT_EQ(cuStreamDestroy(stream), CUDA_SUCCESS);
    SimDeviceTest::TearDown();
  }
  static double Seconds() {
    const char* text = std::getenv("POOL_STORM_SECONDS");
    return text == nullptr ? 3 : std::atof(text);
  }

  CUstream streams_[kStreams] = {};
  CUdeviceptr bad_[kThreads] = {};
  std::mutex mutex_;
  std::deque<Block> shared_;  // blocks that anyone may check and free
  std::atomic<uint64_t> graphs_{0};
  std::atomic<uint64_t> operations_{0};
  std::atomic<uint64_t> ended_streams_{0};
  friend class Walker;
};

// One thread's walk.
class Walker {
 public:
  Walker(PoolStormTest& storm, Pool& pool, int index, uint64_t seed)
      : storm_(storm), pool_(pool), bad_(storm.bad_[index]), random_(seed) {
    storm_.Enter();
    own_ = storm_.NewStream();
  }

  void Walk(int operations) {
    for (int i = 0; i < operations && !::testing::Test::HasFailure(); ++i) Step();
    while (!mine_.empty()) Finish(PopAny());
    EndOwnStream();
  }

 private:
  uint64_t Random(uint64_t below) { return random_() % below; }
  uint64_t Size() {
    const uint64_t which = Random(100);
    if (which < 70) return 1 + Random(16 << 10);
    if (which < 95) return 1 + Random(1 << 20);
    return 1 + Random(12 << 20);
  }
  CUstream AnyStream() {
    const uint64_t which = Random(10);
    if (which == 0) return nullptr;
    if (which == 1) return CU_STREAM_PER_THREAD;
    if (which == 2 && !capturing_) return own_;
    return storm_.streams_[Random(kStreams)];
  }

  void Step() {
    ++storm_.operations_;
    const uint64_t what = Random(100);
    if (what < 50) {
      Allocate(AnyStream());
    } else if (what < 80) {
      if (!mine_.empty()) Finish(PopAny());
    } else if (what < 92) {
      Exchange();
    } else if (what < 97) {
      UseElsewhere();
    } else if (what == 97) {
      Graph();
    } else if (what == 98) {
      if (Random(4) == 0) pool_.Trim();
    } else {
      pool_.Stats();
    }
    if (mine_.size() > 40) Finish(PopAny());
  }
  void Allocate(CUstream stream) {
    Block block{0, Size(), random_(), stream};
    const Result<CUdeviceptr> va = pool_.Allocate(block.bytes, stream);
    if (!va.ok()) return;
    block.va = *va;
    storm_.Fill(block.va, block.bytes, block.seed, stream);
    mine_.push_back(block);
  }
  Block PopAny() {
    std::swap(mine_[Random(mine_.size())], mine_.back());
    const Block block = mine_.back();
    mine_.pop_back();
    return block;
  }
  // The last use and the free, on the block's stream or, after an event, on another one.
  void Finish(const Block& block) {
    CUstream stream = block.stream;
    if (Random(5) == 0) {
      stream = AnyStream();
      storm_.Order(stream, block.stream);
    }
    storm_.Check(block.va, block.bytes, block.seed, bad_, stream);
    EXPECT_TRUE(pool_.Free(block.va, stream).ok());
  }
  // Another stream reads the block; its free is for the pool to put off.
  void UseElsewhere() {
    if (mine_.empty()) return;
    const Block& block = mine_[Random(mine_.size())];
    const CUstream stream = AnyStream();
    storm_.Order(stream, block.stream);
    EXPECT_TRUE(pool_.RecordStream(block.va, stream).ok());
    storm_.Check(block.va, block.bytes, block.seed, bad_, stream);
  }
  // Gives a block to all, and takes one of theirs. Only this thread can use its own streams.
  void Exchange() {
    if (!mine_.empty()) {
      Block block = PopAny();
      if (block.stream == CU_STREAM_PER_THREAD || block.stream == own_) {
        const CUstream common = storm_.streams_[Random(kStreams)];
        storm_.Order(common, block.stream);
        EXPECT_TRUE(pool_.RecordStream(block.va, common).ok());
        block.stream = common;
      }
      const std::lock_guard lock(storm_.mutex_);
      storm_.shared_.push_back(block);
    }
    const std::lock_guard lock(storm_.mutex_);
    if (storm_.shared_.size() < 8) return;
    mine_.push_back(storm_.shared_.front());
    storm_.shared_.pop_front();
  }
  // A graph with memory of its own: captured, launched, and gone.
  void Graph() {
    const PoolId id{storm_.graphs_++, 1};
    const CUstream stream = own_;
    pool_.BeginAllocateTo(id, [stream](CUstream asked) { return asked == stream; });
    ASSERT_EQ(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), CUDA_SUCCESS);
    capturing_ = true;
    const std::vector<Block> kept = Captured(stream);
    capturing_ = false;
    CUgraph graph = nullptr;
    ASSERT_EQ(cuStreamEndCapture(stream, &graph), CUDA_SUCCESS);
    pool_.EndAllocateTo(id);
    CUgraphExec exec = nullptr;
    ASSERT_EQ(cuGraphInstantiate(&exec, graph, 0), CUDA_SUCCESS);
    for (uint64_t i = Random(3); i > 0; --i) ASSERT_EQ(cuGraphLaunch(exec, stream), CUDA_SUCCESS);
    ASSERT_EQ(cuGraphExecDestroy(exec), CUDA_SUCCESS);
    ASSERT_EQ(cuGraphDestroy(graph), CUDA_SUCCESS);
    for (const Block& block : kept) EXPECT_TRUE(pool_.Free(block.va, stream).ok());
    pool_.ReleasePool(id);
  }
  std::vector<Block> Captured(CUstream stream) {
    std::vector<Block> blocks;
    for (uint64_t i = 1 + Random(4); i > 0; --i) {
      Block block{0, 1 + Random(300 << 10), random_(), stream};
      const Result<CUdeviceptr> va = pool_.Allocate(block.bytes, stream);
      if (!va.ok()) continue;
      block.va = *va;
      storm_.Fill(block.va, block.bytes, block.seed, stream);
      storm_.Check(block.va, block.bytes, block.seed, bad_, stream);
      if (Random(2) == 0) {
        EXPECT_TRUE(pool_.Free(block.va, stream).ok());
      } else {
        blocks.push_back(block);
      }
      // What is not captured goes on meanwhile, also on this thread.
      Allocate(storm_.streams_[Random(kStreams)]);
      FinishAnother();
    }
    for (const Block& block : blocks) storm_.Check(block.va, block.bytes, block.seed, bad_, stream);
    return blocks;
  }
  // A block that is not on the captured stream.
  void FinishAnother() {
    const auto other =
        std::find_if(mine_.begin(), mine_.end(), [&](const Block& b) { return b.stream != own_; });
    if (other == mine_.end()) return;
    const Block block = *other;
    mine_.erase(other);
    Finish(block);
  }
  void EndOwnStream() {
    if (pool_.StreamEnds(own_).ok()) ++storm_.ended_streams_;
    EXPECT_EQ(cuStreamDestroy(own_), CUDA_SUCCESS);
  }

  PoolStormTest& storm_;
  Pool& pool_;
  const CUdeviceptr bad_;
  CUstream own_ = nullptr;
  bool capturing_ = false;
  std::mt19937_64 random_;
  std::vector<Block> mine_;
};

TEST_F(PoolStormTest, EveryBlockKeepsItsContents) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(Seconds());
  Pool pool(driver_, source_);
  source_.fail_one_in = 11;
  uint64_t seed = 1;
  while (std::chrono::steady_clock::now() < until && !HasFailure()) {
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i, mine = ++seed] { Walker(*this, pool, i, mine).Walk(200); });
    }
    for (std::thread& thread : threads) thread.join();
  }
  source_.fail_one_in = 0;
  for (const Block& block : shared_) EXPECT_TRUE(pool.Free(block.va, block.stream).ok());
  ASSERT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
  for (const CUdeviceptr word : bad_) EXPECT_EQ(ReadWord(word), 0U) << "words that were not as written";
  pool.Trim();
  const PoolStats stats = pool.Stats();
  EXPECT_EQ(source_.live(), 0U);
  EXPECT_EQ(stats.asked + stats.pending + stats.cached + stats.reserved, 0U);
  EXPECT_EQ(stats.allocations, stats.frees);
  // Not only the easy way was gone.
  EXPECT_GT(stats.retries, 0U);
  EXPECT_GT(graphs_.load(), 0U);
  std::printf(
      "operations %lu, allocations %lu, graphs %lu, segments %lu, retries %lu, handovers %lu, refused %lu\n",
      operations_.load(), stats.allocations, graphs_.load(), stats.segment_creates, stats.retries,
      stats.handovers, stats.out_of_memory);
}

}  // namespace
}  // namespace gpuroom
