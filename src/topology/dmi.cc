#include "topology/dmi.h"

#include <optional>

#include "base/size.h"

namespace gpuroom {
namespace {

constexpr uint8_t kMemoryDevice = 17;
constexpr uint8_t kEndOfTable = 127;

uint64_t AddPlausible(uint64_t sum, uint64_t bytes) {
  return bytes <= kMostPlausibleBytes - sum ? sum + bytes : sum;
}

uint64_t LittleEndian(std::string_view table, size_t offset, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) {
    value |= static_cast<uint64_t>(static_cast<unsigned char>(table[offset + i])) << (8 * i);
  }
  return value;
}

// SMBIOS 3.x, 7.18: the size word counts MB, or KB with bit 15 set; 0x7fff
// means that the extended field has it; 0xffff is unknown.
uint64_t DeviceBytes(std::string_view structure) {
  constexpr size_t kSize = 0x0c;
  constexpr size_t kExtendedSize = 0x1c;
  if (structure.size() < kSize + 2) return 0;
  const uint64_t size = LittleEndian(structure, kSize, 2);
  if (size == 0xffff) return 0;
  if (size == 0x7fff) {
    if (structure.size() < kExtendedSize + 4) return 0;
    return (LittleEndian(structure, kExtendedSize, 4) & 0x7fffffff) * kMiB;
  }
  return (size & 0x8000) != 0 ? (size & 0x7fff) * kKiB : size * kMiB;
}

}  // namespace

uint64_t ParseDmidecode(std::string_view text) {
  uint64_t sum = 0;
  for (const std::string_view raw : SplitLines(text)) {
    std::string_view line = Trim(raw);
    constexpr std::string_view kKey = "Size: ";
    if (!line.starts_with(kKey)) continue;  // also "Size: No Module Installed" below
    const Result<uint64_t> bytes = ParseSize(Trim(line.substr(kKey.size())));
    if (bytes.ok()) sum = AddPlausible(sum, *bytes);
  }
  return sum;
}

uint64_t ParseDmiTable(std::string_view table) {
  uint64_t sum = 0;
  while (table.size() >= 4) {
    const auto type = static_cast<uint8_t>(table[0]);
    const auto length = static_cast<uint8_t>(table[1]);
    if (type == kEndOfTable || length < 4 || length > table.size()) break;
    if (type == kMemoryDevice) sum = AddPlausible(sum, DeviceBytes(table.substr(0, length)));
    // Strings follow, and two zero bytes end them.
    const size_t end = table.find(std::string_view("\0\0", 2), length);
    if (end == std::string_view::npos) break;
    table.remove_prefix(end + 2);
  }
  return sum;
}

InstalledMemory ReadInstalledMemory(const Sysroot& root) {
  if (!root.IsMachine()) {
    const std::optional<std::string> text = root.Read("/dmidecode-t-memory.txt");
    const uint64_t bytes = text ? ParseDmidecode(*text) : 0;
    if (bytes > 0) return {bytes, "dmidecode"};
  }
  const std::optional<std::string> table = root.Read("/sys/firmware/dmi/tables/DMI");
  const uint64_t bytes = table ? ParseDmiTable(*table) : 0;
  if (bytes > 0) return {bytes, "the firmware's DMI table"};
  return {};
}

}  // namespace gpuroom
