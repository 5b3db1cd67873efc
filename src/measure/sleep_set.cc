#include "measure/sleep_set.h"

#include "base/clock.h"
#include "range/mover.h"
#include "sleep/engine.h"

namespace gpuroom::measure {
namespace {

constexpr uint64_t kAheadChunk = 64 * kMiB;  // created as fast as larger ones (docs/measurements.md)

double SleepSecondsSince(uint64_t start) { return static_cast<double>(NowNanoseconds() - start) / 1e9; }

template <typename Work>
Result<double> Timed(Work work) {
  const uint64_t start = NowNanoseconds();
  const Status status = work();
  if (!status.ok()) return status;
  return SleepSecondsSince(start);
}

}  // namespace

SleepSet::~SleepSet() {
  for (void* pinned : pinned_) {
    if (pinned != nullptr) machine_.session().calls().MemFreeHost(pinned);
  }
  for (std::unique_ptr<Range>& range : ranges_) machine_.Discard(std::move(range));
}

Status SleepSet::Make(uint64_t count, uint64_t bytes) {
  const uint64_t granules = bytes / kGranularity;
  Status status;
  for (uint64_t i = 0; i < count && status.ok(); ++i)
    status = MakeOne((granules / count + (i < granules % count ? 1 : 0)) * kGranularity);
  pinned_.assign(ranges_.size(), nullptr);
  return status;
}

Status SleepSet::MakeOne(uint64_t bytes) {
  Result<std::unique_ptr<Range>> range =
      machine_.Build(TailPlan(bytes, 0, machine_.session().device(), {}), bytes);
  if (!range.ok()) return range.status();
  ranges_.push_back(std::move(*range));
  bytes_ += bytes;
  return machine_.session().Fill(TargetOf(ranges_.size() - 1), ranges_.size());
}

Status SleepSet::Check() {
  for (size_t i = 0; i < ranges_.size(); ++i) {
    const Status status = machine_.session().Check(TargetOf(i), i + 1);
    if (!status.ok()) return status;
  }
  return Status();
}

Status SleepSet::CheckFirst() { return machine_.session().Check(TargetOf(0), 1); }

Result<double> SleepSet::Sleep(SleepAction action, const char* directory) {
  SleepSettings settings;
  settings.directory = directory;
  std::vector<DeviceSleep> devices(1);
  devices[0].context = machine_.session().context();
  devices[0].source = &machine_.source();
  devices[0].host = &machine_.host();
  for (const auto& range : ranges_) devices[0].items.push_back({range.get(), action});
  SleepCounts counts;
  return Timed([&] { return PutToSleep(machine_.session().driver(), settings, &devices, &counts); });
}

Result<double> SleepSet::Wake(bool lazy) {
  std::vector<DeviceWake> devices(1);
  devices[0].context = machine_.session().context();
  devices[0].source = &machine_.source();
  for (const auto& range : ranges_) devices[0].placed.push_back(range.get());
  WakeCounts counts;
  return Timed([&] { return WakeUp(machine_.session().driver(), lazy, &devices, &counts); });
}

Status SleepSet::BringBack() {
  std::vector<Part> parts;
  for (const auto& range : ranges_) {
    parts.push_back({range.get(), 0, range->chunks.size(), Tier::kDevice, range->device, 0, Status()});
  }
  Mover(machine_.session().driver()).Move(machine_.session().context(), machine_.source(), &parts);
  for (const Part& part : parts) {
    if (!part.status.ok()) return part.status;
  }
  return Status();
}

uint64_t SleepSet::BytesOnHost() const {
  uint64_t bytes = 0;
  for (const auto& range : ranges_) bytes += range->host_bytes;
  return bytes;
}

Status SleepSet::CreateAhead() {
  while (machine_.host().kept_bytes() < bytes_) {
    if (!machine_.host().CreateKept(kAheadChunk, machine_.session().device())) {
      return Status(Code::kOutOfMemory, "the host has too little memory for the backups");
    }
  }
  return Status();
}

void SleepSet::DropAhead() { machine_.host().Trim(); }

Result<double> SleepSet::CopyOut() { return TimedEach(&SleepSet::CopyOutOne); }

Result<double> SleepSet::CopyBack() { return TimedEach(&SleepSet::CopyBackOne); }

Result<double> SleepSet::TimedEach(Status (SleepSet::*copy)(size_t)) {
  return Timed([&] {
    Status status;
    for (size_t i = 0; i < ranges_.size() && status.ok(); ++i) status = (this->*copy)(i);
    return status;
  });
}

Status SleepSet::CopyOutOne(size_t i) {
  Range& range = *ranges_[i];
  const Calls& calls = machine_.session().calls();
  CUresult result = calls.MemHostAlloc(&pinned_[i], range.bytes, 0);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemHostAlloc");
  result = calls.MemcpyDtoH(pinned_[i], range.va, range.bytes);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemcpyDtoH");
  result = machine_.session().driver().MemUnmap(range.va, range.bytes);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemUnmap");
  range.mapped = 0;
  return machine_.source().Release(&range.chunks);
}

Status SleepSet::CopyBackOne(size_t i) {
  Range& range = *ranges_[i];
  const Driver& driver = machine_.session().driver();
  const int device = machine_.session().device();
  Status status = machine_.source().CreateIn(Tier::kDevice, device, range.bytes, &range.chunks);
  if (status.ok()) status = MapChunks(driver, range.va, range.chunks, &range.mapped);
  if (status.ok()) status = SetAccess(driver, range.va, range.bytes, uint64_t{1} << device);
  if (!status.ok()) return status;
  const Calls& calls = machine_.session().calls();
  const CUresult result = calls.MemcpyHtoD(range.va, pinned_[i], range.bytes);
  if (result != CUDA_SUCCESS) return DriverStatus(result, "cuMemcpyHtoD");
  calls.MemFreeHost(pinned_[i]);
  pinned_[i] = nullptr;
  return Status();
}

}  // namespace gpuroom::measure
