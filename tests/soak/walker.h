// Walker: one thread of the storm. It walks through random operations on blocks of
// its own, each with work pending on one of its streams, and knows what every cell must hold.
//
// A call that fails does nothing: while failures are injected an operation may
// stop anywhere, and the model follows the calls that succeeded. Anything else that goes wrong
// ends the process with the seed and the last operations.
#pragma once

#include <functional>

#include "program.h"
#include "shared.h"

namespace gpuroom::soak {

class Walker {
 public:
  struct Operation {
    const char* name;
    unsigned weight;
    Outcome (Walker::*run)();
  };
  static const std::vector<Operation>& Operations();

  Walker(Shared& shared, uint64_t id);
  void Run();
  // With no failures injected: checks every cell, then gives everything back.
  void Finish();

 private:
  // A write that a graph repeats.
  struct GraphWrite {
    Block* block;
    size_t cell;
    Pattern pattern;
  };
  struct Graph {
    CUgraphExec exec = nullptr;
    CUgraph captured = nullptr;  // kept where it holds memory of its own
    size_t stream = 0;
    std::vector<GraphWrite> writes;
  };
  // A reservation in which the program maps chunks of one size, as PyTorch's expandable segments do.
  struct Segment {
    CUdeviceptr va = 0;
    uint64_t slot_bytes = 0;
    std::vector<Block*> slots;  // null: nothing mapped there
  };

  // Operations: memory.cc
  Outcome AllocLarge();
  Outcome AllocSmall();
  Outcome AllocAsync();
  Outcome Free();
  Outcome MapSlot();
  Outcome UnmapSlot();
  Outcome MapAlias();
  Outcome Exchange();
  // contents.cc
  Outcome Write();
  Outcome Copy();
  Outcome VerifySome();
  Outcome ReadBack();
  Outcome SyncStream();
  Outcome Settle();
  // move.cc
  Outcome MigrateOne();
  Outcome MigrateBatch();
  Outcome SetHint();
  Outcome SetThreadHint();
  Outcome Describe();
  Outcome AskDriver();
  // graph.cc
  Outcome Capture();
  Outcome Replay();
  Outcome DropGraph();
  // weather.cc
  Outcome ChangeWeather();

  // walker.cc: the random choices, and what becomes of results.
  uint64_t Random(uint64_t below) { return random_() % below; }
  bool Chance(unsigned percent) { return Random(100) < percent; }
  Block* Pick();                                                 // null: there is none
  Block* PickIf(const std::function<bool(const Block&)>& fits);  // of a few tries
  bool Ok(CUresult result, const char* call);                    // false: it failed, and may have
  Outcome Full(CUresult result, const char* call);               // the same where memory may be short
  void Insist(const std::function<CUresult()>& call, const char* name);
  [[noreturn]] void Fail(const std::string& what);
  void Trace(const char* what, const Block& block) const;
  bool MayFail() const { return shared_.weather.MayFail(epoch_); }

  // memory.cc
  Block* Add(CUdeviceptr p, uint64_t bytes, Origin origin, size_t stream);
  void FillSome(Block& block);
  Outcome Allocate(uint64_t bytes);
  Outcome FreeBlock(Block* block);
  Outcome FreeMapped(Block* block);
  Outcome MapIn(Segment& segment, size_t slot);
  void Unmap(CUdeviceptr va, uint64_t bytes);
  void Forget(Block* block);
  void Reserve();
  void GiveBackSegments();
  // contents.cc
  bool WriteCell(Block& block, Cell& cell, const Pattern& pattern, unsigned how);
  Pattern NewPattern(unsigned how);
  bool CheckLate(Block& block, Cell& cell);
  void CheckNow(Block& block, Cell& cell);
  void CheckCounter();
  void Synchronize(size_t stream);
  CUresult Launch(CUfunction function, std::vector<uint64_t> arguments, CUstream stream);
  // move.cc
  Outcome Judge(int result);
  void Look(Block* block, uint64_t host_bytes);
  void CheckPlace(const Block& block, int tier);
  // graph.cc
  bool CaptureSteps(Graph* graph);
  void CaptureWrite(Graph* graph);
  void CaptureFree(const Graph& graph);
  void CaptureMigrate();
  bool CaptureAllocAsync(CUstream stream);
  CUgraph EndCapture(CUstream stream);
  void DestroyGraph(size_t index);
  void DropGraphsOf(const Block* block);

  Shared& shared_;
  const uint64_t id_;
  const int device_;
  CUcontext context_ = nullptr;
  std::mt19937_64 random_;
  uint64_t epoch_ = 0;  // of the weather, when the operation began
  uint64_t step_ = 0;
  uint64_t weather_ends_ = 0;      // step; 0: no failures now
  std::vector<const char*> last_;  // operations, the latest last
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<Segment> segments_;
  CUdeviceptr alias_va_ = 0;  // room for a second mapping of one block
  Block* aliased_ = nullptr;  // the block that has it
  std::vector<Graph> graphs_;
  bool capturing_ = false;
  std::vector<CUstream> streams_;
  std::vector<std::vector<uint64_t>> uploads_;  // host memory that a copy may still read
  CUfunction fill_ = nullptr;
  CUfunction verify_ = nullptr;
  CUdeviceptr bad_ = 0;  // where late checks count wrong words
};

}  // namespace gpuroom::soak
