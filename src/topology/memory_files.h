// /proc/meminfo, a node's meminfo, and /proc/iomem. Parsers are pure functions
// of the text; malformed lines are left out. Stateless; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gpuroom {

// The fields of meminfo, in bytes where the file says kB, else as counted.
class MemInfo {
 public:
  void Set(std::string_view name, uint64_t value) { values_[std::string(name)] = value; }
  std::optional<uint64_t> Get(std::string_view name) const;
  uint64_t GetOr(std::string_view name, uint64_t otherwise) const { return Get(name).value_or(otherwise); }
  bool empty() const { return values_.empty(); }

 private:
  std::map<std::string, uint64_t, std::less<>> values_;
};

// Accepts both forms ("MemFree: 1 kB", "Node 0 MemFree: 1 kB"). Values beyond
// kMostPlausibleBytes are taken for garbage.
MemInfo ParseMemInfo(std::string_view text);

// File pages that the kernel can drop at once to satisfy an allocation.
uint64_t ReclaimableBytes(const MemInfo& info);

struct MemoryRegion {
  uint64_t start = 0;
  uint64_t bytes = 0;
};

// The top-level RAM entries of /proc/iomem.
struct IoMem {
  bool readable = false;             // the file is there and has entries
  bool addresses_hidden = false;     // all zeros, as an ordinary user reads it
  bool nvidia_named = false;         // an entry is called 'System RAM (NVIDIA)'
  std::vector<MemoryRegion> ram;     // 'System RAM'; empty when hidden
  std::vector<MemoryRegion> nvidia;  // 'System RAM (NVIDIA)'; empty when hidden
  uint64_t RamBytes() const;
  uint64_t NvidiaBytes() const;
};

IoMem ParseIoMem(std::string_view text);

}  // namespace gpuroom
