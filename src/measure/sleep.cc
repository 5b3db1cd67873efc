#include "measure/sleep.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "measure/sleep_set.h"

namespace gpuroom::measure {
namespace {

// How long memory stays asleep. The driver clears what was given back, for 1.6 ms a GiB, and a wake that
// follows at once waits for that (docs/driver-notes.md).
constexpr auto kAsleep = std::chrono::milliseconds(200);

uint64_t FreeByDriver(Machine& machine) {
  size_t free = 0;
  size_t total = 0;
  return machine.session().driver().MemGetInfo(&free, &total) == CUDA_SUCCESS ? free : 0;
}

// One case: its allocations, and every way in turn.
class CaseBench {
 public:
  CaseBench(Machine& machine, const SleepRequest& request, SleepCase* out)
      : machine_(machine), request_(request), out_(*out), set_(machine) {}

  Status Run() {
    Status status = set_.Make(static_cast<uint64_t>(out_.allocations), out_.bytes);
    if (status.ok()) status = First();
    if (status.ok()) status = Ahead();
    if (status.ok()) status = Lazy();
    if (status.ok() && !request_.directory.empty()) status = Disk();
    set_.DropAhead();
    if (status.ok()) status = Copying();
    return status;
  }

 private:
  Status First();
  Status Ahead();
  Status Lazy();
  Status Disk();
  Status Copying();

  // One sleep and one wake, checked, into `speeds`.
  template <typename Down, typename Up>
  Status Round(SleepSpeeds* speeds, Down down, Up up);

  void Say(const char* way) const {
    if (request_.progress) {
      request_.progress(
          fmt::format("{} in {} allocations: {}", FormatSize(out_.bytes), out_.allocations, way));
    }
  }

  Machine& machine_;
  const SleepRequest& request_;
  SleepCase& out_;
  SleepSet set_;
};

template <typename Down, typename Up>
Status CaseBench::Round(SleepSpeeds* speeds, Down down, Up up) {
  const uint64_t free_before = FreeByDriver(machine_);
  const Result<double> slept = down();
  if (!slept.ok()) return slept.status();
  std::this_thread::sleep_for(kAsleep);
  const uint64_t free_asleep = FreeByDriver(machine_);
  out_.freed = free_asleep > free_before ? free_asleep - free_before : 0;
  const Result<double> woke = up();
  if (!woke.ok()) return woke.status();
  const double sleep = static_cast<double>(out_.bytes) / *slept;
  const double wake = static_cast<double>(out_.bytes) / *woke;
  const bool one = speeds->rounds++ == 0;
  speeds->sleep = one ? sleep : std::min(speeds->sleep, sleep);
  speeds->wake = one ? wake : std::min(speeds->wake, wake);
  speeds->best_sleep = std::max(speeds->best_sleep, sleep);
  speeds->best_wake = std::max(speeds->best_wake, wake);
  return set_.Check();
}

Status CaseBench::First() {
  Say("nothing created ahead");
  set_.DropAhead();
  return Round(
      &out_.first, [&] { return set_.Sleep(SleepAction::kKeep, nullptr); }, [&] { return set_.Wake(false); });
}

Status CaseBench::Ahead() {
  Say("creating host memory ahead");
  Status status = set_.CreateAhead();
  Say("with host memory created ahead");
  for (int i = 0; i < request_.rounds && status.ok(); ++i) {
    status = Round(
        &out_.ahead, [&] { return set_.Sleep(SleepAction::kKeep, nullptr); },
        [&] { return set_.Wake(false); });
  }
  return status;
}

Status CaseBench::Lazy() {
  Say("a lazy wake");
  Status status = set_.CreateAhead();
  if (!status.ok()) return status;
  const Result<double> slept = set_.Sleep(SleepAction::kKeep, nullptr);
  if (!slept.ok()) return slept.status();
  std::this_thread::sleep_for(kAsleep);
  const uint64_t start = NowNanoseconds();
  const auto elapsed = [&] { return static_cast<double>(NowNanoseconds() - start) / 1e9; };
  const Result<double> woke = set_.Wake(true);
  if (!woke.ok()) return woke.status();
  out_.lazy.returned = elapsed();
  out_.lazy.left_on_host = set_.BytesOnHost();
  status = set_.CheckFirst();
  out_.lazy.first_kernel = elapsed();
  if (status.ok()) status = set_.BringBack();
  out_.lazy.back = elapsed();
  if (status.ok()) status = set_.Check();
  return status;
}

Status CaseBench::Disk() {
  Say("to disk");
  return Round(
      &out_.disk, [&] { return set_.Sleep(SleepAction::kDisk, request_.directory.c_str()); },
      [&] { return set_.Wake(false); });
}

Status CaseBench::Copying() {
  Say("one copy per allocation into fresh pinned memory");
  return Round(
      &out_.copying, [&] { return set_.CopyOut(); }, [&] { return set_.CopyBack(); });
}

// Whole granules, of which every allocation has one or more.
SleepCase MakeCase(uint64_t bytes, int most) {
  SleepCase made;
  made.bytes = std::max(RoundDown(bytes, kGranularity), kGranularity);
  made.allocations =
      static_cast<int>(std::min<uint64_t>(static_cast<uint64_t>(most), made.bytes / kGranularity));
  return made;
}

// Why there is no room for it; "" where there is.
std::string NoRoom(Machine& machine, SleepCase* one) {
  if (one->bytes > machine.DeviceFree())
    return fmt::format("the GPU has less than {} free", FormatSize(one->bytes));
  one->beyond_host = one->bytes > machine.HostFree();
  return one->beyond_host ? fmt::format("host memory has less than {} free", FormatSize(one->bytes)) : "";
}

}  // namespace

Status MeasureSleep(Machine& machine, const SleepRequest& request, SleepResult* result) {
  for (const uint64_t bytes : request.sizes) {
    SleepCase one = MakeCase(bytes, request.allocations);
    one.skipped = NoRoom(machine, &one);
    if (one.skipped.empty() && result->copies.both == 0) {
      const Result<CopySpeeds> copies = MeasureCopies(machine.session(), one.bytes, request.rounds);
      if (!copies.ok()) return copies.status();
      result->copies = *copies;
    }
    const Status status = one.skipped.empty() ? CaseBench(machine, request, &one).Run() : Status();
    if (status.code() == Code::kOutOfMemory) {
      one.skipped = fmt::format("the GPU or the host has less than {} free", FormatSize(one.bytes));
    } else if (!status.ok()) {
      return status;
    }
    result->cases.push_back(std::move(one));
  }
  return Status();
}

}  // namespace gpuroom::measure
