// Random requests against the simplest model of a pool: a list of what is in use. The device tells at
// once when memory is used again before its last use is over; the model, when two blocks overlap.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "pool_fixture.h"

namespace gpuroom {
namespace {

class PoolModelTest : public PoolTest, public ::testing::WithParamInterface<unsigned> {
 protected:
  struct Live {
    uint64_t bytes;
    CUstream stream;
    std::vector<CUstream> recorded;
    uint64_t owner;
    int graph;  // -1: none
  };
  struct Segment {
    uint64_t bytes = 0;
    int graph = -1;  // -1: shared
    uint64_t born = 0;
  };
  struct Graph {
    bool begun = false;
    bool capturing = false;
    uint64_t generation = 0;
  };

  static constexpr int kGone = -2;  // no graph: forgets only what was destroyed

  unsigned Random(unsigned below) { return static_cast<unsigned>(random_() % below); }
  CUstream AnyStream() { return Stream(Random(5) == 0 ? 0 : 100 * (1 + Random(3))); }
  static CUstream GraphStream(int graph) { return Stream(1000 + 8 * static_cast<uintptr_t>(graph)); }
  static PoolId GraphId(int graph) { return {0, static_cast<uint64_t>(graph) + 1}; }
  bool AnyCapture() const { return graphs_[0].capturing || graphs_[1].capturing; }

  uint64_t AnySize() {
    static constexpr uint64_t kMost[] = {4 * kKiB, 4 * kKiB, 200 * kKiB, 2 * kMiB, 16 * kMiB, 30 * kMiB};
    return 1 + random_() % kMost[Random(6)];
  }

  void Allocate(CUstream stream, int graph) {
    const uint64_t bytes = AnySize();
    const Result<CUdeviceptr> va = pool_->Allocate(bytes, stream);
    if (!va.ok()) {
      EXPECT_EQ(va.status().code(), Code::kOutOfMemory);
      return;
    }
    EXPECT_EQ(*va % kUnitBytes, 0U);
    const auto next = live_.lower_bound(*va);
    EXPECT_TRUE(next == live_.end() || *va + bytes <= next->first);
    EXPECT_TRUE(next == live_.begin() || std::prev(next)->first + std::prev(next)->second.bytes <= *va);
    // A graph's memory counts as used by the graph as long as it lives.
    const uint64_t owner = graph < 0 ? ++owner_ : GraphOwner(graph);
    live_[*va] = {bytes, stream, {}, owner, graph};
    if (graph < 0) device_.Work(*va, bytes, stream, owner);
    CheckPlace(*va, bytes, graph);
  }
  uint64_t GraphOwner(int graph) const {
    return 1'000'000'000 * (static_cast<uint64_t>(graph) + 1) + graphs_[graph].generation;
  }
  // It lies in a segment of its graph's, or in a shared one; and its block wastes little.
  void CheckPlace(CUdeviceptr va, uint64_t bytes, int graph) {
    CUdeviceptr base = 0;
    uint64_t found = 0;
    ASSERT_TRUE(pool_->FindBlock(va + bytes - 1, &base, &found));
    EXPECT_EQ(base, va);
    EXPECT_LE(found - bytes, std::max<uint64_t>(bytes / 8, kUnitBytes - 1));
    ASSERT_TRUE(pool_->Find(va, &base, &found));
    Segment& known = segments_[base];
    if (known.born != source_.born[base]) known = {found, graph, source_.born[base]};
    EXPECT_EQ(known.graph, graph);
  }
  void ForgetSegments(int graph) {
    std::erase_if(segments_, [&](const auto& entry) {
      return entry.second.graph == graph || !source_.live.contains(entry.first);
    });
  }

  std::map<CUdeviceptr, Live>::iterator AnyLive() { return std::next(live_.begin(), Random(live_.size())); }
  void UseOrFree() {
    if (live_.empty()) return;
    const auto entry = AnyLive();
    auto& [va, block] = *entry;
    const bool other = block.graph < 0 && Random(4) == 0;
    const CUstream stream = other ? AnyStream() : block.stream;
    // A stream that uses another's block waits for that one first, as programs do.
    if (stream != block.stream) device_.Wait(stream, block.stream);
    if (Random(3) == 0 && block.graph < 0) {
      EXPECT_TRUE(pool_->RecordStream(va, stream).ok());
      device_.Work(va, block.bytes, stream, block.owner);
      return;
    }
    if (block.graph < 0) device_.Work(va, block.bytes, stream, block.owner);
    EXPECT_TRUE(pool_->Free(va, stream).ok());
    EXPECT_FALSE(pool_->Free(va, stream).ok());
    live_.erase(entry);
  }

  void GraphStep() {
    const int which = static_cast<int>(Random(2));
    Graph& graph = graphs_[which];
    if (graph.capturing) {
      if (Random(8) != 0) return Allocate(GraphStream(which), which);
      device_.EndCapture(GraphStream(which));
      pool_->EndAllocateTo(GraphId(which));
      graph.capturing = false;
    } else if (!graph.begun) {
      const CUstream stream = GraphStream(which);
      pool_->BeginAllocateTo(GraphId(which), [stream](CUstream asked) { return asked == stream; });
      device_.BeginCapture(stream);
      graph = {true, true, graph.generation + 1};
    } else {
      Replay(which);
      if (Random(4) == 0) Release(which);
    }
  }
  void Release(int which) {
    pool_->ReleasePool(GraphId(which));
    graphs_[which].begun = false;
    for (auto& [va, block] : live_) {
      if (block.graph == which) block.graph = -1;
    }
    ForgetSegments(which);
  }
  // A graph's launch uses all that its pool ever had, on any stream.
  void Replay(int which) {
    const CUstream stream = AnyStream();
    for (const auto& [base, segment] : segments_) {
      if (segment.graph == which) device_.Work(base, segment.bytes, stream, GraphOwner(which));
    }
  }

  // Waits for the device as the pool does by itself, and then does what other threads might do before the
  // pool has drawn its conclusions.
  Status WaitForDevice() {
    if (!finishing_ && Random(2) == 0) return {Code::kBusy, "a capture of somebody else's"};
    const CUresult waited = driver_.CtxSynchronize();
    if (finishing_) return DriverStatus(waited, "waiting for the device");
    for (unsigned i = Random(4); i > 0; --i) UseOrFree();
    const int which = static_cast<int>(Random(2));
    if (graphs_[which].begun && Random(3) == 0) {
      Replay(which);
      Release(which);
    }
    return DriverStatus(waited, "waiting for the device");
  }

  void Step() {
    const unsigned what = Random(100);
    if (what < 45) {
      Allocate(AnyStream(), -1);
    } else if (what < 85) {
      UseOrFree();
    } else if (what < 93) {
      device_.Step(Random(1000));
    } else if (what < 98) {
      GraphStep();
    } else if (what == 98) {
      pool_->Trim();
    } else {
      device_.RunAll();
    }
    ForgetSegments(kGone);
  }
  void CheckStats() {
    uint64_t asked = 0;
    for (const auto& [va, block] : live_) asked += block.bytes;
    const PoolStats stats = Stats();
    EXPECT_EQ(stats.asked, asked);
    EXPECT_GE(stats.allocated, asked);
    EXPECT_EQ(stats.active, stats.allocated + stats.pending);
    EXPECT_LE(stats.active + stats.cached, stats.reserved);
    EXPECT_LE(stats.active + stats.cached, stats.peak_used);
    EXPECT_EQ(stats.allocations - stats.frees, live_.size());
    EXPECT_EQ(stats.segments, source_.live.size());
    EXPECT_EQ(stats.segment_creates - stats.segment_destroys, source_.live.size());
  }
  void FinishAll() {
    finishing_ = true;
    for (int which = 0; which < 2; ++which) {
      if (graphs_[which].capturing) {
        device_.EndCapture(GraphStream(which));
        pool_->EndAllocateTo(GraphId(which));
      }
      pool_->ReleasePool(GraphId(which));
    }
    while (!live_.empty()) {
      EXPECT_TRUE(pool_->Free(live_.begin()->first, live_.begin()->second.stream).ok());
      live_.erase(live_.begin());
    }
    pool_->Trim();
    EXPECT_TRUE(source_.live.empty()) << "all blocks joined again, or the segments could not go";
    CheckStats();
  }

  std::mt19937_64 random_{GetParam()};
  std::map<CUdeviceptr, Live> live_;
  std::map<CUdeviceptr, Segment> segments_;
  Graph graphs_[2];
  bool finishing_ = false;
};

TEST_P(PoolModelTest, NoOverlapNoUseTooEarlyAndAllComesBack) {
  PoolOptions options;
  options.synchronize = [this] { return WaitForDevice(); };
  pool_ = std::make_unique<Pool>(driver_, source_, options);
  Limit(120 * kMiB, GetParam() % 2 == 0 ? 40 * kMiB : 0);
  for (int step = 0; step < 6000 && !HasFailure(); ++step) {
    Step();
    if (step % 100 == 0) CheckStats();
    if (live_.size() > 400) UseOrFree();
  }
  EXPECT_GT(Stats().retries, 0U);
  FinishAll();
}

INSTANTIATE_TEST_SUITE_P(Seeds, PoolModelTest, ::testing::Range(1U, 13U));

}  // namespace
}  // namespace gpuroom
