// Moves memory between HBM and the host at fixed addresses and says how fast: a whole
// range to and fro, two ranges past one another in one batch, and a captured graph that
// is replayed on what has moved. Every word is checked after every move.
// Only under `headroom run`: the functions are looked up, and without them it is skipped.
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "driver_program.h"

namespace headroom::bench {
namespace {

struct Headroom {
  decltype(&headroom_describe) describe = nullptr;
  decltype(&headroom_migrate_batch) migrate_batch = nullptr;
  decltype(&headroom_last_error) last_error = nullptr;
};

template <typename Function>
void Find(Function& function, const char* name) {
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

Headroom FindHeadroom() {
  Headroom found;
  Find(found.describe, "headroom_describe");
  Find(found.migrate_batch, "headroom_migrate_batch");
  Find(found.last_error, "headroom_last_error");
  return found;
}

// A range and the seed of what it holds.
struct Buffer {
  CUdeviceptr address = 0;
  uint64_t bytes = 0;
  uint64_t seed = 0;
};

class MigrateTest {
 public:
  MigrateTest(Program& program, Report& report, const Headroom& headroom)
      : program_(program), report_(report), headroom_(headroom) {
    HEADROOM_CHECK(program.api().MemAlloc(&bad_, sizeof(uint64_t)));
  }

  Buffer Make(uint64_t bytes, uint64_t seed) {
    Buffer buffer{0, bytes, seed};
    HEADROOM_CHECK(program_.api().MemAlloc(&buffer.address, bytes));
    program_.Fill(buffer.address, bytes, seed, program_.stream());
    HEADROOM_CHECK(program_.api().StreamSynchronize(program_.stream()));
    return buffer;
  }
  void Free(const Buffer& buffer) { HEADROOM_CHECK(program_.api().MemFree(buffer.address)); }

  // Once to the host and back; the first time the host's memory may have to be created.
  void ThereAndBack(const Buffer& buffer, uint64_t rounds) {
    std::vector<double> there, back;
    for (uint64_t round = 0; round < rounds; ++round) {
      there.push_back(Move("to_host", {MoveOf(buffer, HEADROOM_TIER_HOST)}, {buffer}));
      back.push_back(Move("to_device", {MoveOf(buffer, HEADROOM_TIER_DEVICE)}, {buffer}));
    }
    report_.Figure("to_host_first_GBps", there.front());
    report_.Figure("to_device_first_GBps", back.front());
    Later("to_host_GBps", there);
    Later("to_device_GBps", back);
  }

  // Two buffers change places: one call.
  void PastOneAnother(const Buffer& a, const Buffer& b, uint64_t rounds) {
    Move("prepare", {MoveOf(a, HEADROOM_TIER_HOST), MoveOf(b, HEADROOM_TIER_DEVICE)}, {a, b});
    std::vector<double> speeds;
    for (uint64_t round = 0; round < 2 * rounds; ++round) {
      const bool even = round % 2 == 0;
      const int to_a = even ? HEADROOM_TIER_DEVICE : HEADROOM_TIER_HOST;
      const int to_b = even ? HEADROOM_TIER_HOST : HEADROOM_TIER_DEVICE;
      speeds.push_back(Move("both_ways", {MoveOf(a, to_a), MoveOf(b, to_b)}, {a, b}));
    }
    Later("both_ways_GBps", speeds);
  }

  // A graph that was captured before the move writes the right place after it.
  void ReplayAfterMove(Buffer buffer) {
    const Api& api = program_.api();
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    buffer.seed += 1000;
    HEADROOM_CHECK(api.StreamBeginCapture(program_.stream(), CU_STREAM_CAPTURE_MODE_GLOBAL));
    program_.Fill(buffer.address, buffer.bytes, buffer.seed, program_.stream());
    HEADROOM_CHECK(api.StreamEndCapture(program_.stream(), &graph));
    HEADROOM_CHECK(api.GraphInstantiate(&exec, graph, 0));
    for (const int tier : {HEADROOM_TIER_HOST, HEADROOM_TIER_DEVICE}) {
      buffer.seed -= 1000;  // what the move has to keep
      program_.Fill(buffer.address, buffer.bytes, buffer.seed, program_.stream());
      Move("before_replay", {MoveOf(buffer, tier)}, {buffer});
      HEADROOM_CHECK(api.GraphLaunch(exec, program_.stream()));
      buffer.seed += 1000;
      CheckContents("replay", buffer);
    }
    report_.Check("replays", true);
  }

  uint64_t BytesIn(int tier, const Buffer& buffer) const {
    headroom_placement place = {};
    if (headroom_.describe(buffer.address, &place) != 0) return 0;
    return tier == HEADROOM_TIER_HOST ? place.host_bytes : place.device_bytes;
  }

 private:
  static headroom_move MoveOf(const Buffer& buffer, int tier) {
    return {buffer.address, 0, tier, HEADROOM_OK, 0};
  }

  // The speed of one call, from what it says it moved. Checks places and contents.
  double Move(const std::string& name, std::vector<headroom_move> moves, const std::vector<Buffer>& buffers) {
    HEADROOM_CHECK(program_.api().CtxSynchronize());
    const double start = NowSeconds();
    const int result = headroom_.migrate_batch(moves.data(), moves.size());
    const double seconds = NowSeconds() - start;
    if (result != HEADROOM_OK) {
      report_.Check(name, false, "result " + std::to_string(result) + ": " + headroom_.last_error());
      return 0;
    }
    uint64_t moved = 0;
    for (size_t i = 0; i < moves.size(); ++i) {
      moved += moves[i].moved;
      const uint64_t there = BytesIn(moves[i].tier, buffers[i]);
      if (there < buffers[i].bytes) {
        report_.Check(name, false, std::to_string(there) + " bytes lie there after the move");
      }
      CheckContents(name, buffers[i]);
    }
    std::fprintf(stderr, "%s: %.1f MiB in %.2f ms, %.2f GB/s\n", name.c_str(),
                 static_cast<double>(moved) / (1 << 20), seconds * 1e3,
                 static_cast<double>(moved) / seconds / 1e9);
    return static_cast<double>(moved) / seconds / 1e9;
  }

  void CheckContents(const std::string& name, const Buffer& buffer) {
    HEADROOM_CHECK(program_.api().MemsetD32Async(bad_, 0, 2, program_.stream()));
    program_.Verify(buffer.address, buffer.bytes, buffer.seed, bad_, program_.stream());
    const uint64_t bad = program_.ReadWord(bad_);
    ++checked_;
    if (bad != 0) report_.Check(name + " contents", false, std::to_string(bad) + " wrong words");
    if (checked_ == 1)
      report_.Check("contents", bad == 0, "of the first move; later ones speak only when wrong");
  }

  // The median of all but the first.
  void Later(const std::string& name, const std::vector<double>& speeds) {
    if (speeds.size() < 2) return;
    report_.Figure(name, Median({speeds.begin() + 1, speeds.end()}));
    report_.Figure("best_" + name, *std::max_element(speeds.begin() + 1, speeds.end()));
  }

  Program& program_;
  Report& report_;
  const Headroom headroom_;
  CUdeviceptr bad_ = 0;
  int checked_ = 0;
};

}  // namespace
}  // namespace headroom::bench

int main(int argc, char** argv) {
  using namespace headroom::bench;
  const Options options(argc, argv, {"size", "rounds", "device", "lookup", "mixed"});
  const Headroom headroom = FindHeadroom();
  if (headroom.describe == nullptr || headroom.migrate_batch == nullptr || headroom.last_error == nullptr) {
    std::printf("{\"skip\": \"there is no headroom_migrate_batch in this process\"}\n");
    return 77;
  }
  Program program(options.LookupKind(), static_cast<int>(options.Number("device", 0)));
  program.LoadKernels();
  Report report("migrate");
  MigrateTest test(program, report, headroom);
  const uint64_t bytes = options.Bytes("size", uint64_t{8} << 30);
  const uint64_t rounds = options.Number("rounds", 4);
  const Buffer whole = test.Make(bytes, 7);
  report.Figure("bytes", static_cast<double>(bytes));
  const uint64_t on_host = test.BytesIn(HEADROOM_TIER_HOST, whole);
  report.Figure("first_host_bytes", static_cast<double>(on_host));
  if (options.Number("mixed", 0) != 0) {
    report.Check("mixed", on_host > 0 && on_host < bytes, std::to_string(on_host) + " bytes on the host");
  }
  test.ThereAndBack(whole, rounds);
  test.Free(whole);
  const Buffer a = test.Make(bytes / 2, 11);
  const Buffer b = test.Make(bytes / 2, 13);
  test.PastOneAnother(a, b, rounds);
  test.ReplayAfterMove(a);
  test.Free(a);
  test.Free(b);
  return report.Finish();
}
