#include "range/managed_cap.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "tier/chunk.h"

namespace gpuroom {
namespace {

constexpr double kLeastRatio = 0.1;
constexpr double kMostRatio = 100;

uint64_t Times(double ratio, uint64_t bytes) {
  const double product = ratio * static_cast<double>(bytes);
  return product < 0x1p63 ? static_cast<uint64_t>(product) : uint64_t{1} << 63;
}

}  // namespace

ManagedCap CapOf(const ManagedOptions& options, const ManagedMachine& machine) {
  ManagedCap cap;
  cap.bytes = Times(options.ratio, machine.hbm);
  const auto bound_by = [&cap](uint64_t bytes, ManagedCap::Bound bound) {
    if (bytes >= cap.bytes) return;
    cap.bytes = bytes;
    cap.bound = bound;
  };
  cap.only_free = !machine.coherent && !options.allow_oversubscription;
  if (cap.only_free) bound_by(machine.hbm, ManagedCap::Bound::kDevice);
  const uint64_t host = std::min(machine.host, UINT64_MAX - machine.hbm);
  bound_by(machine.hbm + host, ManagedCap::Bound::kHost);
  cap.bytes = RoundDown(cap.bytes, kGranularity);
  return cap;
}

std::string WhyBound(ManagedCap::Bound bound, const ManagedOptions& options) {
  char text[64];
  switch (bound) {
    case ManagedCap::Bound::kRatio:
      std::snprintf(text, sizeof text, "%g times the HBM; ", options.ratio);
      return text + std::string("--oversubscription-ratio changes that");
    case ManagedCap::Bound::kHost:
      return "the HBM and the host memory that may be used, where what exceeds HBM lies; raise --host-limit";
    case ManagedCap::Bound::kDevice:
      return "what the GPU has free, since without a hardware-coherent link more leads to storms of "
             "page faults and can hang the card; --allow-oversubscription lifts that";
  }
  return "";
}

Result<double> ParseRatio(std::string_view text) {
  const Status malformed(Code::kInvalidArgument, "not a ratio; write a number from 0.1 to 100, such as 5.0");
  double ratio = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), ratio, std::chars_format::fixed);
  if (error != std::errc() || end != text.data() + text.size()) return malformed;
  if (!(ratio >= kLeastRatio && ratio <= kMostRatio)) return malformed;
  return ratio;
}

}  // namespace gpuroom
