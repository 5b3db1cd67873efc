#include "report.h"

#include <cinttypes>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace gpuroom::samples {
namespace {

constexpr double kMiB = 1048576.0;

// Buffers that lie in the same place, added up.
struct Group {
  const char* place;
  int count = 0;
  uint64_t bytes = 0;
  uint64_t hbm_bytes = 0;
  uint64_t host_bytes = 0;
  double seconds = 0;

  void Add(const BufferResult& buffer) {
    ++count;
    bytes += buffer.bytes;
    hbm_bytes += buffer.hbm_bytes;
    host_bytes += buffer.host_bytes;
    seconds += buffer.seconds;
  }

  double GigabytesPerSecond() const { return seconds > 0 ? static_cast<double>(bytes) / seconds / 1e9 : 0; }
};

std::vector<Group> MakeGroups(const DemoResult& result) {
  std::vector<Group> groups = {{"HBM"}, {"HBM and host"}, {"host"}, {"all"}};
  for (const BufferResult& buffer : result.buffers) {
    const size_t place = buffer.host_bytes == 0 ? 0 : buffer.hbm_bytes == 0 ? 2 : 1;
    groups[place].Add(buffer);
    groups[3].Add(buffer);
  }
  return groups;
}

}  // namespace

uint64_t DemoResult::WrongWords() const {
  uint64_t wrong = 0;
  for (const BufferResult& buffer : buffers) wrong += buffer.wrong_words;
  return wrong;
}

void PrintTable(const DemoResult& result) {
  std::printf("%-14s %8s %12s %12s %12s %13s\n", "lay in", "buffers", "MiB", "HBM MiB", "host MiB",
              "read GB/s");
  for (const Group& group : MakeGroups(result)) {
    if (group.count == 0) continue;
    std::printf("%-14s %8d %12.0f %12.0f %12.0f %13.1f\n", group.place, group.count,
                static_cast<double>(group.bytes) / kMiB, static_cast<double>(group.hbm_bytes) / kMiB,
                static_cast<double>(group.host_bytes) / kMiB, group.GigabytesPerSecond());
  }
  if (!result.under_gpuroom) std::printf("(without gpuroom: what the driver gave is taken for HBM)\n");
  if (result.simulated) std::printf("(simulated driver: these speeds are this machine's, not a GPU's)\n");
  const uint64_t wrong = result.WrongWords();
  if (wrong == 0) {
    std::printf("\nPASS: every word that was written was read back right\n");
  } else {
    std::printf("\nFAIL: %" PRIu64 " words were not what was written\n", wrong);
  }
}

void PrintJson(const DemoResult& result) {
  using Json = nlohmann::ordered_json;
  Json out = {{"ok", result.WrongWords() == 0},        {"simulated", result.simulated},
              {"under_gpuroom", result.under_gpuroom}, {"gpu", result.gpu},
              {"device_bytes", result.total_bytes},    {"wrong_words", result.WrongWords()}};
  out["groups"] = Json::array();
  for (const Group& group : MakeGroups(result)) {
    if (group.count == 0) continue;
    out["groups"].push_back({{"place", group.place},
                             {"buffers", group.count},
                             {"bytes", group.bytes},
                             {"hbm_bytes", group.hbm_bytes},
                             {"host_bytes", group.host_bytes},
                             {"read_gb_per_s", group.GigabytesPerSecond()}});
  }
  out["buffers"] = Json::array();
  for (const BufferResult& buffer : result.buffers) {
    out["buffers"].push_back({{"address", buffer.address},
                              {"bytes", buffer.bytes},
                              {"hbm_bytes", buffer.hbm_bytes},
                              {"host_bytes", buffer.host_bytes},
                              {"wrong_words", buffer.wrong_words},
                              {"read_seconds", buffer.seconds}});
  }
  std::printf("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

}  // namespace gpuroom::samples
