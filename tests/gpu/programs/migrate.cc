// Moves memory between HBM and the host at fixed addresses and says how fast: a whole
// range to and fro, two ranges past one another in one batch, and a captured graph that
// is replayed on what has moved. Every word is checked after every move.
// Only under `gpuroom run`: the functions are looked up, and without them it is skipped.
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "driver_program.h"

namespace gpuroom::bench {
namespace {

struct Gpuroom {
  decltype(&gpuroom_describe) describe = nullptr;
  decltype(&gpuroom_migrate_batch) migrate_batch = nullptr;
  decltype(&gpuroom_last_error) last_error = nullptr;
};

template <typename Function>
void Find(Function& function, const char* name) {
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

Gpuroom FindGpuroom() {
  Gpuroom found;
  Find(found.describe, "gpuroom_describe");
  Find(found.migrate_batch, "gpuroom_migrate_batch");
  Find(found.last_error, "gpuroom_last_error");
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
  MigrateTest(Program& program, Report& report, const Gpuroom& gpuroom)
      : program_(program), report_(report), gpuroom_(gpuroom) {
    GPUROOM_CHECK(program.api().MemAlloc(&bad_, sizeof(uint64_t)));
  }

  Buffer Make(uint64_t bytes, uint64_t seed) {
    Buffer buffer{0, bytes, seed};
    GPUROOM_CHECK(program_.api().MemAlloc(&buffer.address, bytes));
    program_.Fill(buffer.address, bytes, seed, program_.stream());
    GPUROOM_CHECK(program_.api().StreamSynchronize(program_.stream()));
    return buffer;
  }
  void Free(const Buffer& buffer) { GPUROOM_CHECK(program_.api().MemFree(buffer.address)); }

  // Once to the host and back; the first time the host's memory may have to be created.
  void ThereAndBack(const Buffer& buffer, uint64_t rounds) {
    std::vector<double> there, back;
    for (uint64_t round = 0; round < rounds; ++round) {
      there.push_back(Move("to_host", {MoveOf(buffer, GPUROOM_TIER_HOST)}, {buffer}));
      back.push_back(Move("to_device", {MoveOf(buffer, GPUROOM_TIER_DEVICE)}, {buffer}));
    }
    report_.Figure("to_host_first_GBps", there.front());
    report_.Figure("to_device_first_GBps", back.front());
    Later("to_host_GBps", there);
    Later("to_device_GBps", back);
  }

  // Two buffers change places: one call.
  void PastOneAnother(const Buffer& a, const Buffer& b, uint64_t rounds) {
    Move("prepare", {MoveOf(a, GPUROOM_TIER_HOST), MoveOf(b, GPUROOM_TIER_DEVICE)}, {a, b});
    std::vector<double> speeds;
    for (uint64_t round = 0; round < 2 * rounds; ++round) {
      const bool even = round % 2 == 0;
      const int to_a = even ? GPUROOM_TIER_DEVICE : GPUROOM_TIER_HOST;
      const int to_b = even ? GPUROOM_TIER_HOST : GPUROOM_TIER_DEVICE;
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
    GPUROOM_CHECK(api.StreamBeginCapture(program_.stream(), CU_STREAM_CAPTURE_MODE_GLOBAL));
    program_.Fill(buffer.address, buffer.bytes, buffer.seed, program_.stream());
    GPUROOM_CHECK(api.StreamEndCapture(program_.stream(), &graph));
    GPUROOM_CHECK(api.GraphInstantiate(&exec, graph, 0));
    for (const int tier : {GPUROOM_TIER_HOST, GPUROOM_TIER_DEVICE}) {
      buffer.seed -= 1000;  // what the move has to keep
      program_.Fill(buffer.address, buffer.bytes, buffer.seed, program_.stream());
      Move("before_replay", {MoveOf(buffer, tier)}, {buffer});
      GPUROOM_CHECK(api.GraphLaunch(exec, program_.stream()));
      buffer.seed += 1000;
      CheckContents("replay", buffer);
    }
    report_.Check("replays", true);
  }

  uint64_t BytesIn(int tier, const Buffer& buffer) const {
    gpuroom_placement place = {};
    if (gpuroom_.describe(buffer.address, &place, sizeof place) != 0) return 0;
    return tier == GPUROOM_TIER_HOST ? place.host_bytes : place.device_bytes;
  }

 private:
  static gpuroom_move MoveOf(const Buffer& buffer, int tier) {
    return {buffer.address, 0, tier, GPUROOM_OK, 0};
  }

  // The speed of one call, from what it says it moved. Checks places and contents.
  double Move(const std::string& name, std::vector<gpuroom_move> moves, const std::vector<Buffer>& buffers) {
    GPUROOM_CHECK(program_.api().CtxSynchronize());
    const double start = NowSeconds();
    const int result = gpuroom_.migrate_batch(moves.data(), moves.size(), sizeof moves[0]);
    const double seconds = NowSeconds() - start;
    if (result != GPUROOM_OK) {
      report_.Check(name, false, "result " + std::to_string(result) + ": " + gpuroom_.last_error());
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
    GPUROOM_CHECK(program_.api().MemsetD32Async(bad_, 0, 2, program_.stream()));
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
  const Gpuroom gpuroom_;
  CUdeviceptr bad_ = 0;
  int checked_ = 0;
};

}  // namespace
}  // namespace gpuroom::bench

int main(int argc, char** argv) {
  using namespace gpuroom::bench;
  const Options options(argc, argv, {"size", "rounds", "device", "lookup", "mixed"});
  const Gpuroom gpuroom = FindGpuroom();
  if (gpuroom.describe == nullptr || gpuroom.migrate_batch == nullptr || gpuroom.last_error == nullptr) {
    std::printf("{\"skip\": \"there is no gpuroom_migrate_batch in this process\"}\n");
    return 77;
  }
  Program program(options.LookupKind(), static_cast<int>(options.Number("device", 0)));
  program.LoadKernels();
  Report report("migrate");
  MigrateTest test(program, report, gpuroom);
  const uint64_t bytes = options.Bytes("size", uint64_t{8} << 30);
  const uint64_t rounds = options.Number("rounds", 4);
  const Buffer whole = test.Make(bytes, 7);
  report.Figure("bytes", static_cast<double>(bytes));
  const uint64_t on_host = test.BytesIn(GPUROOM_TIER_HOST, whole);
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
