#include "measure/tiers.h"

#include <fmt/format.h>

#include <algorithm>

#include "measure/managed.h"

namespace gpuroom::measure {
namespace {

constexpr uint64_t kMostCreated = kGiB;  // 2 MiB at a time that takes half a second

std::string Name(Place place) {
  return place.tier == Tier::kPeer ? fmt::format("GPU {}'s memory", place.place)
                                   : fmt::format("host node {}", place.place);
}

class TiersBench {
 public:
  TiersBench(Machine& machine, const TiersRequest& request, TiersResult* result)
      : machine_(machine), request_(request), result_(*result) {}

  Status Run() {
    result_.bytes = request_.bytes;
    result_.rounds = request_.rounds;
    Status status = MeasureDevice();
    if (status.ok()) status = MeasureHost();
    if (status.ok()) status = MeasurePeers();
    if (status.ok()) status = MeasureManagedShares();
    if (status.ok()) status = MeasureReferences();
    if (status.ok()) status = MeasureMoves();
    return status;
  }

 private:
  Status MeasureDevice();
  Status MeasureHost();
  Status MeasurePeers();
  Status MeasureOtherPeer(int peer);
  Status MeasureManagedShares();
  Status MeasureReferences();
  Status MeasureMoves();
  // Fills series->points; kOutOfMemory becomes a reason to skip it.
  Status MeasureSeries(TierSeries* series);
  Status MeasurePoint(Place slow, SharePoint* point);

  void Say(const std::string& what) const {
    if (request_.progress) request_.progress(what);
  }

  Machine& machine_;
  const TiersRequest& request_;
  TiersResult& result_;
  Speeds device_;  // the GPU's own memory alone
};

Status TiersBench::MeasureDevice() {
  const int device = machine_.session().device();
  const Plan plan = TailPlan(request_.bytes, 0, device, {});
  Say("the GPU's own memory");
  // Twice, since an idle GPU takes a while to reach its clock speed, and all else is held against this.
  Result<Speeds> speeds = machine_.MeasurePlan(plan, request_.bytes, request_.rounds);
  if (speeds.ok()) speeds = machine_.MeasurePlan(plan, request_.bytes, request_.rounds);
  if (!speeds.ok()) return speeds.status();
  device_ = *speeds;
  result_.links.push_back({{Tier::kDevice, device}, device_, ""});
  return Status();
}

Status TiersBench::MeasurePoint(Place slow, SharePoint* point) {
  const uint64_t bytes = request_.bytes;
  const int device = machine_.session().device();
  if (point->slow_bytes == 0) {
    point->interleaved = point->tail = device_;
    return Status();
  }
  Say(fmt::format("{:.1f}% on {}: interleaved", point->share * 100, Name(slow)));
  const Result<Speeds> interleaved =
      machine_.MeasurePlan(InterleavedPlan(bytes, point->slow_bytes, device, slow), bytes, request_.rounds);
  if (!interleaved.ok()) return interleaved.status();
  point->interleaved = *interleaved;
  point->tail = *interleaved;
  if (point->slow_bytes == bytes) return Status();
  Say(fmt::format("{:.1f}% on {}: at the end", point->share * 100, Name(slow)));
  const Result<Speeds> tail =
      machine_.MeasurePlan(TailPlan(bytes, point->slow_bytes, device, slow), bytes, request_.rounds);
  if (tail.ok()) point->tail = *tail;
  return tail.status();
}

Status TiersBench::MeasureSeries(TierSeries* series) {
  for (const double share : kShares) {
    SharePoint point;
    point.share = share;
    point.slow_bytes = SlowBytes(request_.bytes, share);
    const Status status = MeasurePoint(series->slow, &point);
    if (status.code() == Code::kOutOfMemory) {
      series->points.clear();
      series->skipped =
          fmt::format("{} has less than {} free", Name(series->slow), FormatSize(request_.bytes));
      return Status();
    }
    if (!status.ok()) return status;
    series->points.push_back(point);
  }
  const Speeds link = series->Alone();
  for (SharePoint& point : series->points) {
    const double share = static_cast<double>(point.slow_bytes) / static_cast<double>(request_.bytes);
    point.ideal = {IdealSpeed(device_.read, link.read, share), IdealSpeed(device_.write, link.write, share)};
  }
  return Status();
}

Status TiersBench::MeasureHost() {
  result_.host.slow = {Tier::kHost, machine_.host().numa_node()};
  if (machine_.gpu().integrated) {
    result_.host.skipped = "this GPU has no memory but the host's";
  } else {
    const Status status = MeasureSeries(&result_.host);
    if (!status.ok()) return status;
  }
  result_.links.push_back({result_.host.slow, result_.host.Alone(), result_.host.skipped});
  return Status();
}

Status TiersBench::MeasurePeers() {
  result_.peer.slow = {Tier::kPeer, -1};
  if (machine_.peers().empty()) {
    result_.peer.skipped = "no other GPU can be reached";
    return Status();
  }
  result_.peer.slow.place = machine_.peers().front();
  Status status = MeasureSeries(&result_.peer);
  result_.links.push_back({result_.peer.slow, result_.peer.Alone(), result_.peer.skipped});
  for (size_t i = 1; i < machine_.peers().size() && status.ok(); ++i) {
    status = MeasureOtherPeer(machine_.peers()[i]);
  }
  return status;
}

Status TiersBench::MeasureOtherPeer(int peer) {
  const Place place{Tier::kPeer, peer};
  const uint64_t bytes = request_.bytes;
  Say(fmt::format("100% on {}", Name(place)));
  const Result<Speeds> speeds = machine_.MeasurePlan(
      TailPlan(bytes, bytes, machine_.session().device(), place), bytes, request_.rounds);
  LinkSpeed link{place, speeds.ok() ? *speeds : Speeds{}, ""};
  if (speeds.status().code() == Code::kOutOfMemory) {
    link.skipped = fmt::format("{} has less than {} free", Name(place), FormatSize(bytes));
  } else if (!speeds.ok()) {
    return speeds.status();
  }
  result_.links.push_back(link);
  return Status();
}

Status TiersBench::MeasureManagedShares() {
  ManagedSeries& series = result_.managed;
  series.bytes = ManagedBytes(machine_, request_.bytes);
  if (series.bytes == 0) {
    series.skipped = "too little is free for it, or this GPU has none that host and GPU may use at once";
    return Status();
  }
  for (const double share : kShares) {
    ManagedPoint point;
    point.share = share;
    point.slow_bytes = SlowBytes(series.bytes, share);
    for (const ManagedMode mode : {ManagedMode::kDirect, ManagedMode::kFault}) {
      const bool direct = mode == ManagedMode::kDirect;
      Say(fmt::format("{:.1f}% on the host: managed memory, {}", share * 100,
                      direct ? "direct" : "by faults"));
      const Result<Speeds> speeds =
          MeasureManaged(machine_.session(), mode, series.bytes, point.slow_bytes, request_.rounds);
      if (speeds.status().code() == Code::kOutOfMemory) {
        series.points.clear();
        series.skipped = fmt::format("{} of it could not be had", FormatSize(series.bytes));
        return Status();
      }
      if (!speeds.ok()) return speeds.status();
      (direct ? point.direct : point.fault) = *speeds;
    }
    series.points.push_back(point);
  }
  return Status();
}

// What there is no memory for stays unmeasured.
Status TiersBench::MeasureReferences() {
  Say("copies of pinned memory");
  const Result<CopySpeeds> copies = MeasureCopies(machine_.session(), request_.bytes, request_.rounds);
  if (copies.ok()) result_.copies = *copies;
  if (!copies.ok() && copies.status().code() != Code::kOutOfMemory) return copies.status();
  if (machine_.gpu().integrated) return Status();
  for (const uint64_t chunk_bytes : {kGranularity, uint64_t{64 * kMiB}}) {
    const uint64_t bytes = RoundDown(std::min(request_.bytes, kMostCreated), chunk_bytes);
    if (bytes == 0) continue;
    Say(fmt::format("creation of host chunks of {}", FormatSize(chunk_bytes)));
    const Result<double> speed = MeasureHostCreation(machine_.host(), bytes, chunk_bytes);
    if (speed.ok()) result_.creation.push_back({bytes, chunk_bytes, *speed});
    if (!speed.ok() && speed.status().code() != Code::kOutOfMemory) return speed.status();
  }
  return Status();
}

Status TiersBench::MeasureMoves() {
  MigrationSpeeds& migration = result_.migration;
  const uint64_t bytes = MigrationBytes(machine_, request_.bytes);
  if (bytes == 0) {
    migration.skipped = "there is no host tier to move memory to, or too little free in it";
    return Status();
  }
  Say(fmt::format("migration of {}", FormatSize(bytes)));
  const Result<MigrationSpeeds> speeds = MeasureMigration(machine_, bytes, request_.rounds);
  if (speeds.ok()) migration = *speeds;
  if (speeds.status().code() != Code::kOutOfMemory) return speeds.status();
  migration.skipped = fmt::format("there is less free than moving {} takes", FormatSize(bytes));
  return Status();
}

}  // namespace

Status MeasureTiers(Machine& machine, const TiersRequest& request, TiersResult* result) {
  return TiersBench(machine, request, result).Run();
}

}  // namespace gpuroom::measure
