#include "topology/pci.h"

#include <cctype>
#include <optional>

namespace gpuroom {
namespace {

constexpr char kDevices[] = "/sys/bus/pci/devices/";
// Payload GB/s of a lane, one direction, generations 1 to 7.
constexpr double kLane[] = {0, 0.25, 0.5, 0.985, 1.969, 3.938, 7.563, 15.125};
constexpr double kEfficiency = 0.86;
constexpr uint64_t kWidest = 32;

PciLink ReadLink(const Sysroot& root, const std::string& directory, const char* which) {
  PciLink link;
  const std::optional<std::string> speed = root.ReadLine(directory + "/" + which + "_link_speed");
  const std::optional<std::string> width = root.ReadLine(directory + "/" + which + "_link_width");
  if (!speed || !width) return link;
  const std::optional<uint64_t> lanes = ParseNumber(*width);
  link.generation = PcieGeneration(*speed);
  if (link.generation == 0 || !lanes || *lanes == 0 || *lanes > kWidest) return PciLink{};
  link.width = static_cast<int>(*lanes);
  link.known = true;
  return link;
}

}  // namespace

double PciLink::GigabytesPerSecond() const { return known ? kLane[generation] * width * kEfficiency : 0; }

int PcieGeneration(std::string_view speed) {
  struct Rate {
    std::string_view text;
    int generation;
  };
  static constexpr Rate kRates[] = {{"2.5 GT/s", 1}, {"5.0 GT/s", 2},  {"5 GT/s", 2},    {"8.0 GT/s", 3},
                                    {"8 GT/s", 3},   {"16.0 GT/s", 4}, {"16 GT/s", 4},   {"32.0 GT/s", 5},
                                    {"32 GT/s", 5},  {"64.0 GT/s", 6}, {"128.0 GT/s", 7}};
  for (const Rate& rate : kRates) {
    if (speed.starts_with(rate.text)) return rate.generation;
  }
  return 0;
}

std::string NormalizePciAddress(std::string_view address) {
  std::string text;
  for (const char c : Trim(address)) text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const size_t colon = text.find(':');
  if (colon != std::string::npos && colon > 4 && text.find_first_not_of('0') >= colon - 4) {
    text.erase(0, colon - 4);
  }
  return text;
}

PciGpu ReadPciGpu(const Sysroot& root, std::string_view address) {
  PciGpu gpu;
  gpu.address = NormalizePciAddress(address);
  const std::string directory = kDevices + gpu.address;
  const std::optional<std::string> node = root.ReadLine(directory + "/numa_node");
  const std::optional<uint64_t> id = node ? ParseNumber(*node) : std::nullopt;
  if (id && *id <= 4095) gpu.numa_node = static_cast<int>(*id);
  gpu.current = ReadLink(root, directory, "current");
  gpu.maximum = ReadLink(root, directory, "max");
  return gpu;
}

std::vector<PciGpu> ListNvidiaGpus(const Sysroot& root) {
  std::vector<PciGpu> gpus;
  for (const std::string& name : root.List(kDevices)) {
    const std::string directory = kDevices + name;
    if (root.ReadLine(directory + "/vendor") != "0x10de") continue;
    const std::optional<std::string> device_class = root.ReadLine(directory + "/class");
    if (!device_class) continue;
    if (!device_class->starts_with("0x0300") && !device_class->starts_with("0x0302")) continue;
    gpus.push_back(ReadPciGpu(root, name));
  }
  return gpus;
}

}  // namespace gpuroom
