// What one call costs beside many live allocations: allocating and freeing, pointer queries,
// gpuroom_describe, hints, statistics, and frees while a CUDA graph is being captured. The same binary runs
// with and without gpuroom; without it the figures are the driver's own, the simulated one's where there is
// no GPU.
//
//   bench_scaling [--kind=small|range|handle] [--live=N]      times, for all kinds and numbers that are not
//   named bench_scaling --kind=KIND --live=N --call=CALL [--calls=K] [--asleep=1]  instructions of one such
//   call
//
// `small`: cuMemAlloc of 4 KiB, the driver's own. `range`: cuMemAlloc of 2 MiB; with
// GPUROOM_RANGE_THRESHOLD=2097152 they are ranges. `handle`: cuMemCreate of 2 MiB, mapped side by side, as
// PyTorch's expandable segments do. Whether some of it is spilled is the environment's matter: with
// GPUROOM_HBM_LIMIT below what the live ones take, the last of them lie on the host
// (bench/scaling_instructions.sh sets it so). With --asleep=1 the live ones sleep meanwhile.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <functional>

#include "driver_program.h"
#include "gpuroom/sleep.h"
#include "instructions.h"

namespace gpuroom::bench {
namespace {

constexpr uint64_t kSmallBytes = 4096;
constexpr uint64_t kLargeBytes = uint64_t{2} << 20;
// How many ranges a graph capture frees before it ends.
constexpr uint64_t kFreesPerCapture = 4;

[[noreturn]] void Stop(const std::string& sentence) {
  std::fprintf(stderr, "%s\n", sentence.c_str());
  std::exit(2);
}

// Bytes of this process in memory.
uint64_t ResidentBytes() {
  uint64_t total = 0;
  uint64_t resident = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  const bool read = file != nullptr && std::fscanf(file, "%lu %lu", &total, &resident) == 2;
  if (file != nullptr) std::fclose(file);
  return read ? resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) : 0;
}

// The C interface, where gpuroom is loaded.
struct Interface {
  decltype(&gpuroom_describe) describe = nullptr;
  decltype(&gpuroom_set_hint) set_hint = nullptr;
  decltype(&gpuroom_get_stats) get_stats = nullptr;
  decltype(&gpuroom_set_thread_hint) set_thread_hint = nullptr;
  decltype(&gpuroom_sleep) sleep = nullptr;
};

Interface FindInterface() {
  Interface found;
  const auto find = [](auto* function, const char* name) {
    *function = reinterpret_cast<std::remove_reference_t<decltype(*function)>>(dlsym(RTLD_DEFAULT, name));
  };
  find(&found.describe, "gpuroom_describe");
  find(&found.set_hint, "gpuroom_set_hint");
  find(&found.get_stats, "gpuroom_get_stats");
  find(&found.set_thread_hint, "gpuroom_set_thread_hint");
  find(&found.sleep, "gpuroom_sleep");
  return found;
}

// Live allocations of one kind.
class Population {
 public:
  Population(const Program& program, std::string kind) : api_(program.api()), kind_(std::move(kind)) {
    if (kind_ != "small" && kind_ != "range" && kind_ != "handle") Stop("--kind is small, range or handle");
  }

  // `spare`: more that Allocate may have live at once beyond these.
  void Fill(uint64_t live, uint64_t spare) {
    if (kind_ == "handle") {
      GPUROOM_CHECK(api_.MemAddressReserve(&span_, (live + spare) * kLargeBytes, 0, 0, 0));
      handles_.resize(live + spare);
    }
    for (uint64_t i = 0; i < live; ++i) addresses_.push_back(Allocate(i));
  }
  void Empty() {
    for (const CUdeviceptr address : addresses_) Free(address);
    if (kind_ == "handle") GPUROOM_CHECK(api_.MemAddressFree(span_, handles_.size() * kLargeBytes));
    addresses_.clear();
  }

  // One more; for handles at the place of that number.
  CUdeviceptr Allocate(uint64_t place) {
    CUdeviceptr address = 0;
    if (kind_ != "handle") {
      GPUROOM_CHECK(api_.MemAlloc(&address, kind_ == "small" ? kSmallBytes : kLargeBytes));
      return address;
    }
    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
    const CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, 0}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    address = span_ + place * kLargeBytes;
    GPUROOM_CHECK(api_.MemCreate(&handles_[place], kLargeBytes, &prop, 0));
    GPUROOM_CHECK(api_.MemMap(address, kLargeBytes, 0, handles_[place], 0));
    GPUROOM_CHECK(api_.MemSetAccess(address, kLargeBytes, &access, 1));
    return address;
  }
  void Free(CUdeviceptr address) {
    if (kind_ != "handle") return CheckResult(api_.MemFree(address), "cuMemFree");
    GPUROOM_CHECK(api_.MemUnmap(address, kLargeBytes));
    GPUROOM_CHECK(api_.MemRelease(handles_[(address - span_) / kLargeBytes]));
  }

  // An address within the live allocation of a number, all of which are met in turn, far apart.
  CUdeviceptr Inside(uint64_t i) const {
    return addresses_[i * 0x9e3779b97f4a7c15 % addresses_.size()] + kSmallBytes / 2;
  }
  uint64_t size() const { return addresses_.size(); }
  const std::string& kind() const { return kind_; }

 private:
  const Api& api_;
  const std::string kind_;
  CUdeviceptr span_ = 0;
  std::vector<CUmemGenericAllocationHandle> handles_;
  std::vector<CUdeviceptr> addresses_;
};

// The calls that are measured, by name.
class Calls {
 public:
  Calls(const Program& program, Population& live)
      : api_(program.api()), stream_(program.stream()), live_(live), gpuroom_(FindInterface()) {}

  static std::vector<std::string> Names() {
    return {"alloc_free", "query", "address_range", "mem_info", "describe", "hint", "stats", "capture_free"};
  }
  bool Has(const std::string& name) const {
    if (name == "describe" || name == "hint" || name == "stats") return HasGpuroom();
    return name != "capture_free" || live_.kind() == "range";
  }
  void Run(const std::string& name, uint64_t calls) {
    if (name == "capture_free") return FreeInCaptures(calls);
    for (uint64_t i = 0; i < calls; ++i) Once(name, i);
  }

 private:
  void Once(const std::string& name, uint64_t i) {
    if (name == "alloc_free") return live_.Free(live_.Allocate(live_.size()));
    if (name == "query") return Query(live_.Inside(i));
    if (name == "address_range") return AddressRange(live_.Inside(i));
    if (name == "mem_info") return MemInfo();
    if (name == "describe") return Describe(live_.Inside(i));
    // The driver's own small memory takes no hint: what is measured is finding that out.
    if (name == "hint") return (void)gpuroom_.set_hint(live_.Inside(i), GPUROOM_HINT_NONE);
    if (name == "stats") return Stats();
    Stop("--call is one of alloc_free, query, address_range, mem_info, describe, hint, stats, capture_free");
  }

  void Query(CUdeviceptr address) {
    CUmemorytype type;
    GPUROOM_CHECK(api_.PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address));
  }
  void AddressRange(CUdeviceptr address) {
    CUdeviceptr base = 0;
    size_t bytes = 0;
    GPUROOM_CHECK(api_.MemGetAddressRange(&base, &bytes, address));
  }
  void MemInfo() {
    size_t free_bytes = 0;
    size_t total = 0;
    GPUROOM_CHECK(api_.MemGetInfo(&free_bytes, &total));
  }
  void Describe(CUdeviceptr address) {
    gpuroom_placement placement = {};
    (void)gpuroom_.describe(address, &placement, sizeof placement);
  }
  void Stats() {
    gpuroom_stats stats = {};
    if (gpuroom_.get_stats(0, &stats, sizeof stats) != GPUROOM_OK) Stop("gpuroom_get_stats failed");
  }

  // Ranges that are freed while a graph is being captured, and what then gives them back.
  void FreeInCaptures(uint64_t calls) {
    std::vector<CUdeviceptr> freed;
    for (uint64_t done = 0; done < calls; done += freed.size()) {
      freed.clear();
      for (uint64_t i = 0; i < kFreesPerCapture; ++i) freed.push_back(live_.Allocate(live_.size()));
      CUgraph graph = nullptr;
      GPUROOM_CHECK(api_.StreamBeginCapture(stream_, CU_STREAM_CAPTURE_MODE_RELAXED));
      for (const CUdeviceptr address : freed) live_.Free(address);
      GPUROOM_CHECK(api_.StreamEndCapture(stream_, &graph));
      MemInfo();  // gives back what was freed meanwhile
      GPUROOM_CHECK(api_.GraphDestroy(graph));
    }
  }

  const Api& api_;
  CUstream stream_;
  Population& live_;
  const Interface gpuroom_;
};

// Nanoseconds a call, the median of five rounds.
double Measure(Calls& calls, const std::string& name, uint64_t count) {
  std::vector<double> nanoseconds;
  for (int round = 0; round < 5; ++round) {
    const double start = NowSeconds();
    calls.Run(name, count);
    nanoseconds.push_back((NowSeconds() - start) * 1e9 / static_cast<double>(count));
  }
  return Median(nanoseconds);
}

void MeasureAll(const Program& program, const std::string& kind, uint64_t number, Report* report) {
  const uint64_t before = ResidentBytes();
  Population live(program, kind);
  live.Fill(number, 1);
  const std::string where = kind + "_" + std::to_string(number) + "_";
  const uint64_t after = ResidentBytes();
  report->Figure(where + "bytes_each",
                 static_cast<double>(after > before ? after - before : 0) / static_cast<double>(number));
  Calls calls(program, live);
  for (const std::string& name : Calls::Names()) {
    if (calls.Has(name)) report->Figure(where + name + "_ns", Measure(calls, name, 64));
  }
  const double start = NowSeconds();
  live.Empty();
  report->Figure(where + "free_all_ns", (NowSeconds() - start) * 1e9 / static_cast<double>(number));
}

// Puts all of it to sleep that Fill makes, its contents dropped.
void FillAsleep(Population* live, uint64_t number) {
  const Interface gpuroom = FindInterface();
  if (gpuroom.sleep == nullptr) Stop("--asleep needs gpuroom");
  gpuroom.set_thread_hint(GPUROOM_HINT_NONE, "asleep");
  live->Fill(number, 1);
  gpuroom.set_thread_hint(GPUROOM_HINT_NONE, nullptr);
  const gpuroom_tag_action drop = {"asleep", GPUROOM_SLEEP_DROP};
  const gpuroom_sleep_request request = {&drop, 1, nullptr, GPUROOM_HOLD_NONE, 0};
  if (gpuroom.sleep(&request, sizeof request, nullptr, 0) != GPUROOM_OK) Stop("gpuroom_sleep failed");
}

int CountCall(const Options& options, const std::string& call) {
  const uint64_t count = options.Number("calls", 4);
  uint64_t instructions = 0;
  const auto piece = [&](const std::function<void()>& mark) {
    const Program program(Lookup::kDlsym, static_cast<int>(options.Number("device", 0)));
    Population live(program, options.Text("kind", ""));
    if (options.Number("asleep", 0) != 0) {
      FillAsleep(&live, options.Number("live", 0));
    } else {
      live.Fill(options.Number("live", 0), 1);
    }
    Calls calls(program, live);
    calls.Run(call, 32);  // what happens once
    mark();
    calls.Run(call, count);
    mark();
  };
  if (!CountInstructions(piece, &instructions)) Stop("the instructions could not be counted");
  std::printf("%lu\n", instructions / count);
  return 0;
}

}  // namespace
}  // namespace gpuroom::bench

int main(int argc, char** argv) {
  using namespace gpuroom::bench;
  const Options options(argc, argv, {"kind", "live", "call", "calls", "asleep", "device"});
  const std::string kind = options.Text("kind", "");
  const uint64_t number = options.Number("live", 0);
  if (const std::string call = options.Text("call", ""); !call.empty()) return CountCall(options, call);
  const Program program(Lookup::kDlsym, static_cast<int>(options.Number("device", 0)));
  Report report("scaling");
  for (const char* each : {"small", "range", "handle"}) {
    if (!kind.empty() && kind != each) continue;
    const uint64_t most = std::string(each) == "small" ? 1'000'000 : 100'000;
    for (uint64_t live = 10; live <= most; live *= 10) {
      if (number == 0 || number == live) MeasureAll(program, each, live, &report);
    }
  }
  report.Figure("gpuroom_loaded", HasGpuroom());
  return report.Finish();
}
