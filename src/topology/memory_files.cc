#include "topology/memory_files.h"

#include "base/size.h"
#include "topology/sysroot.h"

namespace gpuroom {
namespace {

constexpr uint64_t kMaxBytes = (uint64_t{1} << 63) - 1;

uint64_t Sum(const std::vector<MemoryRegion>& regions) {
  uint64_t bytes = 0;
  for (const MemoryRegion& region : regions) {
    if (region.bytes <= kMaxBytes - bytes) bytes += region.bytes;
  }
  return bytes;
}

// "80000000-27fffffff" as a region; nullopt when malformed.
std::optional<MemoryRegion> ParseSpan(std::string_view text) {
  const size_t dash = text.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::optional<uint64_t> first = ParseNumber(text.substr(0, dash), 16);
  const std::optional<uint64_t> last = ParseNumber(text.substr(dash + 1), 16);
  if (!first || !last || *first > *last || *last - *first >= kMaxBytes) return std::nullopt;
  return MemoryRegion{*first, *last - *first + 1};
}

}  // namespace

std::optional<uint64_t> MemInfo::Get(std::string_view name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) return std::nullopt;
  return found->second;
}

MemInfo ParseMemInfo(std::string_view text) {
  MemInfo info;
  for (std::string_view line : SplitLines(text)) {
    if (line.starts_with("Node ")) {
      const size_t space = line.find(' ', 5);
      if (space == std::string_view::npos) continue;
      line.remove_prefix(space + 1);
    }
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0) continue;
    std::string_view value = Trim(line.substr(colon + 1));
    const bool kilobytes = value.ends_with(" kB");
    if (kilobytes) value = Trim(value.substr(0, value.size() - 3));
    const std::optional<uint64_t> number = ParseNumber(value);
    if (!number || *number > (kilobytes ? kMostPlausibleBytes / kKiB : kMostPlausibleBytes)) continue;
    info.Set(Trim(line.substr(0, colon)), kilobytes ? *number * kKiB : *number);
  }
  return info;
}

uint64_t ReclaimableBytes(const MemInfo& info) {
  const std::optional<uint64_t> active = info.Get("Active(file)");
  const std::optional<uint64_t> inactive = info.Get("Inactive(file)");
  if (active || inactive) return active.value_or(0) + inactive.value_or(0);
  const uint64_t file = info.GetOr("FilePages", 0);
  const uint64_t shared = info.GetOr("Shmem", 0);
  return file > shared ? file - shared : 0;
}

uint64_t IoMem::RamBytes() const { return Sum(ram); }
uint64_t IoMem::NvidiaBytes() const { return Sum(nvidia); }

IoMem ParseIoMem(std::string_view text) {
  IoMem result;
  bool any_address = false;
  for (const std::string_view line : SplitLines(text)) {
    if (line.empty() || line[0] == ' ') continue;  // an entry inside another
    const size_t separator = line.find(" : ");
    if (separator == std::string_view::npos) continue;
    const std::optional<MemoryRegion> region = ParseSpan(Trim(line.substr(0, separator)));
    if (!region) continue;
    result.readable = true;
    any_address = any_address || region->start != 0 || region->bytes > 1;
    const std::string_view name = Trim(line.substr(separator + 3));
    if (name == "System RAM") result.ram.push_back(*region);
    if (name == "System RAM (NVIDIA)") {
      result.nvidia_named = true;
      result.nvidia.push_back(*region);
    }
  }
  result.addresses_hidden = result.readable && !any_address;
  if (result.addresses_hidden) {
    result.ram.clear();
    result.nvidia.clear();
  }
  return result;
}

}  // namespace gpuroom
