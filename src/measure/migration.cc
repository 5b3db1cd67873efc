#include "measure/migration.h"

#include <algorithm>

#include "base/clock.h"
#include "range/mover.h"

namespace gpuroom::measure {
namespace {

constexpr uint64_t kLeastMoved = 16 * kMiB;
constexpr uint64_t kSeeds[] = {11, 13};  // of the two ranges, so that neither passes for the other

// The two ranges, each wholly in one tier at a time.
class Migration {
 public:
  Migration(Machine& machine, uint64_t bytes)
      : machine_(machine), bytes_(bytes), mover_(machine.session().driver()) {}
  ~Migration() {
    for (std::unique_ptr<Range>& range : ranges_) {
      if (range != nullptr) machine_.Discard(std::move(range));
    }
  }
  Migration(const Migration&) = delete;
  Migration& operator=(const Migration&) = delete;

  Result<MigrationSpeeds> Run(int rounds) {
    MigrationSpeeds speeds;
    speeds.bytes = bytes_;
    Status status = Place(0, bytes_);
    for (int i = 0; i <= rounds && status.ok();
         ++i) {  // the first creates the host chunks that the others keep using
      status = Move({{0, Tier::kDevice}}, i > 0 ? &speeds.to_device : nullptr);
      if (status.ok()) status = Move({{0, Tier::kHost}}, i > 0 ? &speeds.to_host : nullptr);
    }
    if (status.ok()) status = Place(1, 0);
    for (int i = 0; i <= rounds && status.ok(); ++i) {
      const size_t on_host = static_cast<size_t>(i % 2);
      status = Move({{on_host, Tier::kDevice}, {1 - on_host, Tier::kHost}}, i > 0 ? &speeds.both : nullptr);
    }
    for (size_t i = 0; i < 2 && status.ok(); ++i) status = machine_.session().Check(TargetOf(i), kSeeds[i]);
    if (!status.ok()) return status;
    return speeds;
  }

 private:
  struct Step {
    size_t range;
    Tier to;
  };

  // Makes range `i` with so many bytes on the host, and fills it.
  Status Place(size_t i, uint64_t host_bytes) {
    const int device = machine_.session().device();
    const Plan plan = TailPlan(bytes_, host_bytes, device, {Tier::kHost, machine_.host().numa_node()});
    Result<std::unique_ptr<Range>> range = machine_.Build(plan, bytes_);
    if (!range.ok()) return range.status();
    ranges_[i] = std::move(*range);
    return machine_.session().Fill(TargetOf(i), kSeeds[i]);
  }

  Target TargetOf(size_t i) const { return {ranges_[i]->va, bytes_, nullptr}; }

  // Carries the steps out as one batch; *best becomes what it was or this speed,
  // whichever is higher.
  Status Move(const std::vector<Step>& steps, double* best) {
    std::vector<Part> parts;
    for (const Step& step : steps) {
      Part part;
      part.placed = ranges_[step.range].get();
      part.end = part.placed->chunks.size();
      part.tier = step.to;
      part.place = step.to == Tier::kHost ? machine_.host().numa_node() : machine_.session().device();
      parts.push_back(part);
    }
    const uint64_t start = NowNanoseconds();
    mover_.Move(machine_.session().context(), machine_.source(), &parts);
    const double seconds = static_cast<double>(NowNanoseconds() - start) / 1e9;
    for (const Part& part : parts) {
      if (!part.status.ok()) return part.status;
      if (part.moved != bytes_) return Status(Code::kDriver, "the mover, which left part of a range behind");
    }
    const double moved = static_cast<double>(bytes_) * static_cast<double>(parts.size());
    if (best != nullptr) *best = std::max(*best, moved / seconds);
    return Status();
  }

  Machine& machine_;
  const uint64_t bytes_;
  Mover mover_;
  std::unique_ptr<Range> ranges_[2];
};

}  // namespace

uint64_t MigrationBytes(Machine& machine, uint64_t bytes) {
  const uint64_t free = std::min(machine.DeviceFree(), machine.HostFree());
  const uint64_t most = RoundDown(std::min(bytes, free / 4 * 3), kGranularity);
  return most >= kLeastMoved ? most : 0;
}

Result<MigrationSpeeds> MeasureMigration(Machine& machine, uint64_t bytes, int rounds) {
  return Migration(machine, bytes).Run(rounds);
}

}  // namespace gpuroom::measure
