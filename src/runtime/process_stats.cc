#include "runtime/process_stats.h"

#include "driver/uuid.h"
#include "runtime/runtime.h"

namespace gpuroom {
namespace {

GpuStats StatsOf(const DeviceState& device) {
  GpuStats stats;
  stats.device = static_cast<uint64_t>(device.tier.device());
  stats.uuid = FormatUuid(device.uuid);
  stats.hbm_limit = device.hbm;
  stats.hbm_used = device.tier.budget().used();
  stats.hbm_peak = device.tier.budget().peak();
  stats.peer_limit = device.source.PeerLimit();
  stats.peer_used = device.source.PeerUsed();
  stats.host_limit = device.host_limit;
  stats.host_used = device.host.in_use().used();
  stats.host_peak = device.host.in_use().peak();
  stats.host_kept = device.host.kept_bytes();
  stats.managed_used = device.managed.budget().used();
  stats.managed_peak = device.managed.budget().peak();
  stats.host_node = static_cast<uint64_t>(device.host.numa_node());
  stats.home_node = static_cast<uint64_t>(device.host.home_node());
  stats.allocations = device.counts.allocations.load();
  stats.spilled = device.counts.spilled.load();
  stats.displaced = device.counts.displaced.load();
  const auto moved_to = [&](Tier tier) { return device.counts.moved_to[static_cast<size_t>(tier)].load(); };
  stats.moved_to_hbm = moved_to(Tier::kDevice);
  stats.moved_to_peer = moved_to(Tier::kPeer);
  stats.moved_to_host = moved_to(Tier::kHost);
  return stats;
}

}  // namespace

ProcessStats ReadProcessStats(Runtime& rt) {
  ProcessStats stats;
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    if (const DeviceState* device = rt.ExistingDevice(i)) stats.gpus.push_back(StatsOf(*device));
  }
  stats.share = static_cast<uint64_t>(rt.hbm_waits.state());
  const Activity& activity = rt.activity;
  stats.standstills = activity.standstills.Read();
  stats.standstills_in_vain = activity.not_reached.load();
  stats.moves = activity.moves.Read();
  stats.sleeps = activity.sleeps.Read();
  stats.wakes = activity.wakes.Read();
  stats.backed_up = activity.backed_up.load();
  stats.restored = activity.restored.load();
  stats.host_unclaimed = rt.HostUnclaimed();
  Refusal last;
  activity.refusals.Read(&stats.refusals, &last);
  if (last.code == Code::kOk) return stats;
  stats.refused_code = CodeName(last.code);
  stats.refused_text = last.text;
  stats.refused_device = static_cast<uint64_t>(last.device);
  stats.refused_bytes = last.bytes;
  return stats;
}

}  // namespace gpuroom
