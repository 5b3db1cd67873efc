#include "cli/bench_links.h"

namespace gpuroom {

std::string LinkEntryOf(const BenchSubject& subject, const measure::TiersResult& result, LinkEntry* entry) {
  if (subject.simulated) return "the driver is simulated";
  if (subject.driver.empty()) {
    return "/proc/driver/nvidia/version does not say which driver this is, so no later run could tell "
           "whether the speeds are still its own; give them in GPUROOM_LINK_SPEEDS";
  }
  const bool integrated = subject.gpu.integrated;
  if (!integrated && !result.host.skipped.empty()) return result.host.skipped;
  const auto speed = [](double value) { return static_cast<uint64_t>(value); };
  entry->gpu_name = subject.gpu.name;
  entry->gpu_uuid = subject.gpu.uuid;
  entry->driver = subject.driver;
  entry->measured = subject.measured;
  entry->speeds.device = speed(result.links.front().speeds.read);
  // The host's memory is the GPU's own there.
  entry->speeds.host = integrated ? entry->speeds.device : speed(result.host.Alone().read);
  entry->speeds.peer = speed(result.peer.Alone().read);
  return "";
}

}  // namespace gpuroom
