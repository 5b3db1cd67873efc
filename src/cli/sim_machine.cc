#include "cli/sim_machine.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include "base/size.h"

namespace gpuroom {
namespace {

constexpr int kMostNodes = 16;  // of a profile
constexpr int kCpusOfANode = 64;

using BytesOfNode = uint64_t (*)(int node);

BytesOfNode Find(const char* name) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  return library == nullptr ? nullptr : reinterpret_cast<BytesOfNode>(dlsym(library, name));
}

void AddNode(int node, uint64_t bytes, Sysroot::Files* files) {
  const std::string folder = fmt::format("sys/devices/system/node/node{}", node);
  (*files)[folder + "/cpulist"] = fmt::format("{}-{}", node * kCpusOfANode, (node + 1) * kCpusOfANode - 1);
  (*files)[folder + "/meminfo"] =
      fmt::format("Node {0} MemTotal: {1} kB\nNode {0} MemFree: {1} kB\n", node, bytes / kKiB);
}

}  // namespace

uint64_t SimulatedHostBytes() {
  const BytesOfNode host_bytes = Find("gpuroom_sim_host_bytes");
  uint64_t host = 0;
  for (int node = 0; host_bytes != nullptr && node < kMostNodes; ++node) host += host_bytes(node);
  return host;
}

Sysroot::Files SimulatedMachine() {
  const BytesOfNode host_bytes = Find("gpuroom_sim_host_bytes");
  const BytesOfNode os_bytes = Find("gpuroom_sim_os_bytes");
  Sysroot::Files files;
  if (host_bytes == nullptr || os_bytes == nullptr) return files;
  const uint64_t host = SimulatedHostBytes();
  uint64_t os = 0;
  for (int node = 0; node < kMostNodes && host_bytes(node) > 0; ++node) {
    AddNode(node, os_bytes(node), &files);
    os += os_bytes(node);
  }
  // With Extended GPU Memory the OS and the GPUs have each their own part of what is installed.
  const uint64_t installed = os < host ? os + host : host;
  files["proc/meminfo"] = fmt::format("MemTotal: {0} kB\nMemAvailable: {0} kB\n", os / kKiB);
  files["proc/iomem"] = fmt::format("100000000-{:x} : System RAM\n", (uint64_t{1} << 32) + os - 1);
  files["dmidecode-t-memory.txt"] = fmt::format("Memory Device\n\tSize: {} MB\n", installed / kMiB);
  return files;
}

}  // namespace gpuroom
