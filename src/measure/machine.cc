#include "measure/machine.h"

#include <algorithm>

#include "topology/host_model.h"

namespace gpuroom::measure {
namespace {

constexpr uint64_t kKeepFree = 512 * kMiB;  // of HBM

std::unique_ptr<Ledger> OpenLedger() {
  Result<std::unique_ptr<Ledger>> ledger = Ledger::OpenDefault();
  return ledger.ok() ? std::move(*ledger) : nullptr;
}

uint64_t BytesOfPlan(Tier tier, const Plan& plan) {
  uint64_t sum = 0;
  for (const Piece& piece : plan.pieces) sum += piece.tier == tier ? piece.bytes : 0;
  return sum;
}

}  // namespace

Machine::Machine(Session& session, const std::vector<Gpu>& gpus, const Gpu& gpu, uint64_t host_limit)
    : session_(session),
      gpu_(gpu),
      ledger_(OpenLedger()),
      // Kept chunks serve migrations, as they do in programs; Discard gives them back.
      share_(gpu.integrated ? 0 : host_limit, host_limit, ledger_.get()),
      device_(session.driver(), gpu.device, Budget::kUnlimited, 0, ledger_.get()),
      host_(session.driver(), std::max(gpu.host_numa_node, 0), share_),
      source_(session.driver(), device_, host_, LinkSpeeds{}),
      builder_(session.driver(), source_, gpu.device) {
  host_.FindPlace([&] { return NearestNodes(host_.home_node()); });
  AddPeers(gpus);
}

void Machine::AddPeers(const std::vector<Gpu>& gpus) {
  std::vector<GpuPeer> reached;
  std::copy_if(gpu_.peers.begin(), gpu_.peers.end(), std::back_inserter(reached),
               [](const GpuPeer& peer) { return peer.access; });
  std::stable_sort(reached.begin(), reached.end(), [](const GpuPeer& a, const GpuPeer& b) {
    return a.performance_rank < b.performance_rank;
  });
  for (const GpuPeer& peer : reached) {
    const auto owner = std::find_if(gpus.begin(), gpus.end(),
                                    [&](const Gpu& other) { return other.ordinal == peer.ordinal; });
    if (owner == gpus.end()) continue;
    owners_.push_back(std::make_unique<DeviceTier>(session_.driver(), owner->device, Budget::kUnlimited, 0));
    peers_.push_back(std::make_unique<PeerTier>(*owners_.back(), Budget::kUnlimited, false));
    source_.AddPeer(peers_.back().get());
    peer_ordinals_.push_back(owner->device);
  }
}

uint64_t Machine::DeviceFree() const {
  size_t free = 0;
  size_t total = 0;
  if (session_.driver().MemGetInfo(&free, &total) != CUDA_SUCCESS) return 0;
  const uint64_t keep = std::min<uint64_t>(kKeepFree, total / 16);
  return free > keep ? RoundDown(free - keep, kGranularity) : 0;
}

uint64_t Machine::HostFree() {
  if (gpu_.integrated) return 0;
  host_.Refresh();
  return RoundDown(host_.Free(), kGranularity);
}

Result<std::unique_ptr<Range>> Machine::Build(const Plan& plan, uint64_t bytes) {
  RangeRequest request;
  request.bytes = bytes;
  request.context = session_.context();
  Result<std::unique_ptr<Range>> range = builder_.BuildFrom(request, plan);
  if (!range.ok()) return range;
  // The source lets the host stand in where another process took what was planned.
  if (BytesIn(Tier::kHost, (*range)->chunks) == BytesOfPlan(Tier::kHost, plan) &&
      BytesIn(Tier::kPeer, (*range)->chunks) == BytesOfPlan(Tier::kPeer, plan)) {
    return range;
  }
  Discard(std::move(*range));
  return Status(Code::kOutOfMemory, "a GPU has less free memory than the measurement needs");
}

void Machine::Discard(std::unique_ptr<Range> range) {
  builder_.Discard(std::move(range));
  host_.Trim();
}

Result<Speeds> Machine::MeasurePlan(const Plan& plan, uint64_t bytes, int rounds) {
  Result<std::unique_ptr<Range>> range = Build(plan, bytes);
  if (!range.ok()) return range.status();
  const Result<Speeds> speeds = session_.Measure({(*range)->va, bytes, nullptr}, rounds);
  Discard(std::move(*range));
  return speeds;
}

}  // namespace gpuroom::measure
