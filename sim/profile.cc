#include "profile.h"

#include <strings.h>

#include <charconv>
#include <cmath>
#include <utility>

namespace gpuroom::sim {
namespace {

// The largest machine that can be simulated. Sums over all devices or nodes stay far below 64 bits.
constexpr int kMostDevices = 16;
constexpr int kMostNodes = 16;
constexpr int kMostDriver = 999990;          // as cuDriverGetVersion counts: CUDA 999.9
constexpr uint64_t kMostBytes = kGiB << 20;  // 1 PiB of HBM on each device, and of host memory

struct Named {
  const char* name;
  Profile profile;
};

Profile Make(const char* name, uint64_t hbm, uint64_t host, int nodes) {
  Profile p;
  p.name = name;
  p.hbm = hbm;
  p.host = host;
  p.nodes = nodes;
  return p;
}

Profile H200() { return Make("NVIDIA H200", 143167 * kMiB, 1024 * kGiB, 2); }

Profile Grace(const char* name, uint64_t hbm, uint64_t host) {
  Profile p = Make(name, hbm, host, 1);
  p.coherent = true;
  return p;
}

void SetMemory(Profile* profile, int clock_khz, int bus_bits) {
  profile->memory_clock_khz = clock_khz;
  profile->memory_bus_bits = bus_bits;
}

// Clocks and widths give the published bandwidths: 4.0 TB/s of a GH200's HBM3, 8 of a GB200, 273 GB/s of a
// GB10's LPDDR5X, 1,008 of an RTX 4090.
std::vector<Named> NamedProfiles() {
  Profile eight = H200();
  eight.devices = 8;
  Profile gh200 = Grace("NVIDIA GH200 480GB", 96768 * kMiB, 480 * kGiB);
  SetMemory(&gh200, 2619000, 6144);
  Profile egm = gh200;
  egm.host = 472 * kGiB;
  egm.os = 8 * kGiB;
  Profile gb200 = Grace("NVIDIA GB200", 189471 * kMiB, 480 * kGiB);
  gb200.devices = 2;
  gb200.compute_major = 10;
  gb200.multiprocessors = 152;
  SetMemory(&gb200, 3996000, 8192);
  Profile gb10 = Grace("NVIDIA GB10", 122570 * kMiB, 122570 * kMiB);
  gb10.integrated = true;
  gb10.peer = PeerLink::kNone;
  gb10.compute_major = 12;
  gb10.compute_minor = 1;
  gb10.multiprocessors = 48;
  SetMemory(&gb10, 4266000, 256);
  Profile ada = Make("NVIDIA GeForce RTX 4090", 24082 * kMiB, 64 * kGiB, 1);
  ada.peer = PeerLink::kNone;
  ada.compute_major = 8;
  ada.compute_minor = 9;
  ada.multiprocessors = 128;
  ada.pcie_generation = 4;
  SetMemory(&ada, 10501000, 384);
  return {
      {"h200", H200()}, {"8xh200", eight}, {"gh200", gh200}, {"gh200-egm", egm},
      {"gb200", gb200}, {"gb10", gb10},    {"rtx4090", ada},
  };
}

// A whole number from `least` to `most`.
bool ParseInt(std::string_view text, int least, int most, int* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && *out >= least && *out <= most;
}

// A number with a unit or without, at most kMostBytes. std::from_chars also takes "nan" and "inf".
bool ParseBytes(std::string_view text, uint64_t* out) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return false;
  const std::string unit(end, text.data() + text.size());
  static constexpr struct {
    const char* name;
    int shift;
  } kUnits[] = {{"", 0},     {"B", 0},  {"K", 10},  {"KB", 10},  {"KiB", 10}, {"M", 20},  {"MB", 20},
                {"MiB", 20}, {"G", 30}, {"GB", 30}, {"GiB", 30}, {"T", 40},   {"TB", 40}, {"TiB", 40}};
  for (const auto& known : kUnits) {
    if (strcasecmp(unit.c_str(), known.name) != 0) continue;
    const double bytes = number * static_cast<double>(uint64_t{1} << known.shift);
    if (!std::isfinite(bytes) || bytes < 0 || bytes > static_cast<double>(kMostBytes)) return false;
    *out = static_cast<uint64_t>(bytes);
    return true;
  }
  return false;
}

bool ParsePeer(std::string_view text, PeerLink* out) {
  if (text == "nvlink")
    *out = PeerLink::kNvlink;
  else if (text == "pcie")
    *out = PeerLink::kPcie;
  else if (text == "none")
    *out = PeerLink::kNone;
  else
    return false;
  return true;
}

// "[Nx]SIZE" or a profile's name.
bool ParseHead(std::string_view head, Profile* out) {
  for (const Named& named : NamedProfiles()) {
    if (head == named.name) {
      *out = named.profile;
      return true;
    }
  }
  const size_t x = head.find('x');
  if (x != std::string_view::npos) {
    if (!ParseInt(head.substr(0, x), 0, kMostDevices, &out->devices)) return false;
    head.remove_prefix(x + 1);
  }
  return ParseBytes(head, &out->hbm) && out->hbm % kGranularity == 0 && out->hbm > 0;
}

bool ParseOption(std::string_view option, Profile* out) {
  const size_t equals = option.find('=');
  const std::string_view key = option.substr(0, equals);
  const std::string_view value = equals == std::string_view::npos ? "" : option.substr(equals + 1);
  if (key == "host") return ParseBytes(value, &out->host);
  if (key == "nodes") return ParseInt(value, 1, kMostNodes, &out->nodes);
  if (option == "coherent") return out->coherent = true;
  if (option == "integrated") return out->integrated = true;
  if (key == "peer") return ParsePeer(value, &out->peer);
  if (key == "driver") return ParseInt(value, 0, kMostDriver, &out->driver);
  if (key == "name") {
    out->name = std::string(value);
    return !value.empty();
  }
  return false;
}

}  // namespace

uint64_t Profile::NodeCapacity(int node) const {
  if (node < 0 || node >= nodes) return 0;
  return host / static_cast<uint64_t>(nodes) / kGranularity * kGranularity;
}

bool ParseProfile(std::string_view text, Profile* out, std::string* error) {
  Profile profile = Make("Simulated GPU", 16 * kGiB, 64 * kGiB, 1);
  bool first = true;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    if (first ? !ParseHead(part, &profile) : !ParseOption(part, &profile)) {
      *error = "GPUROOM_SIM: '" + std::string(part) +
               "' is not understood; write a name (h200, gh200, gh200-egm, gb200, gb10, rtx4090, 8xh200) or "
               "[Nx]SIZE[,host=SIZE][,nodes=N][,coherent][,peer=nvlink|pcie|none][,driver=N][,name=...]";
      return false;
    }
    first = false;
    text = comma == std::string_view::npos ? "" : text.substr(comma + 1);
  }
  *out = std::move(profile);
  return true;
}

}  // namespace gpuroom::sim
