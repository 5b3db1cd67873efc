#include "topology/nvidia_files.h"

#include <optional>

#include "base/size.h"

namespace gpuroom {
namespace {

constexpr size_t kMostGpus = 256;  // a file that names more is no machine's

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsWordCharacter(char c) { return IsDigit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

// Whether `text` has `word` with no letter or digit beside it: "GB10" is in "NVIDIA GB10" and not in "GB100".
bool HasWord(std::string_view text, std::string_view word) {
  for (size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    const bool starts = at == 0 || !IsWordCharacter(text[at - 1]);
    if (starts && (end == text.size() || !IsWordCharacter(text[end]))) return true;
  }
  return false;
}

// Chips whose GPU has the host's memory for its own, as far as their names are known.
bool IsIntegrated(std::string_view name) {
  for (const char* chip : {"GB10", "Thor", "Orin", "Xavier"}) {
    if (HasWord(name, chip)) return true;
  }
  return false;
}

// The row of nvidia-smi's table that has the temperature, the power and the memory. A GPU without memory of
// its own shows none there.
bool SaysNoMemory(std::string_view line) {
  const size_t power = line.find("W /") == std::string_view::npos ? line.find("N/A /") : line.find("W /");
  const size_t column = line.find('|', power == std::string_view::npos ? line.size() : power);
  if (column == std::string_view::npos) return false;
  const std::string_view memory = Trim(line.substr(column + 1, line.find('|', column + 1) - column - 1));
  return memory == "Not Supported" || memory == "N/A" || memory == "[N/A]";
}

// Jetson and Thor: the device tree's names of the chip, with zeros between them.
bool IsTegra(const Sysroot& root) {
  const std::string chips = root.Read("/proc/device-tree/compatible").value_or("");
  return chips.find("nvidia,tegra") != std::string::npos;
}

// "14920MiB /  97871MiB" as 97871 MiB.
uint64_t TotalMemory(std::string_view line) {
  const size_t slash = line.find("MiB /");
  if (slash == std::string_view::npos) return 0;
  std::string_view rest = Trim(line.substr(slash + 5));
  const size_t unit = rest.find("MiB");
  if (unit == std::string_view::npos) return 0;
  const std::optional<uint64_t> mib = ParseNumber(Trim(rest.substr(0, unit)));
  return mib && *mib <= kMostPlausibleBytes / kMiB ? *mib * kMiB : 0;
}

// "|   0  NVIDIA GH200 480GB    On  |   00000009:01:00.0 Off |": the row that
// names a GPU has its index first and a bus address in the second column.
bool ParseNameRow(std::string_view line, GpuHint* hint) {
  if (!line.starts_with('|')) return false;
  const size_t second = line.find('|', 1);
  if (second == std::string_view::npos) return false;
  std::string_view name = Trim(line.substr(1, second - 1));
  const std::string_view address = Trim(line.substr(second + 1));
  if (name.empty() || !IsDigit(name[0]) || address.size() < 12 || address[8] != ':') return false;
  while (!name.empty() && IsDigit(name[0])) name.remove_prefix(1);
  name = Trim(name);
  const size_t gap = name.rfind("  ");  // the persistence column stands apart
  hint->name = std::string(Trim(name.substr(0, gap)));
  hint->pci_address = std::string(address.substr(0, address.find(' ')));
  hint->integrated = IsIntegrated(hint->name);
  return !hint->name.empty();
}

}  // namespace

bool IsGraceProduct(std::string_view name) {
  for (const char* product : {"GH200", "GB200", "GB300"}) {
    if (name.find(product) != std::string_view::npos) return true;
  }
  return false;
}

bool IsCoherent(const GpuHint& gpu) { return gpu.coherence_known ? gpu.coherent : IsGraceProduct(gpu.name); }

std::string ParseNvidiaVersion(std::string_view text) {
  // "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build ..."
  const std::vector<std::string_view> lines = SplitLines(text);
  if (lines.empty()) return "";
  std::string_view rest = lines[0];
  while (!rest.empty()) {
    const size_t space = rest.find(' ');
    const std::string_view word = rest.substr(0, space);
    const size_t dot = word.find('.');
    const bool version = dot != std::string_view::npos && dot >= 2 && dot + 1 < word.size() &&
                         word.find_first_not_of("0123456789.") == std::string_view::npos;
    if (version) return std::string(word);
    if (space == std::string_view::npos) break;
    rest.remove_prefix(space + 1);
  }
  return "";
}

CoherentMode ParseCoherentMode(std::string_view params) {
  for (const std::string_view line : SplitLines(params)) {
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    std::string_view key = Trim(line.substr(0, colon));
    if (key.starts_with("NVreg_")) key.remove_prefix(6);
    if (key != "CoherentGPUMemoryMode") continue;
    std::string_view value = Trim(line.substr(colon + 1));
    if (value.starts_with('"')) value.remove_prefix(1);
    if (value.ends_with('"')) value.remove_suffix(1);
    if (value == "driver") return CoherentMode::kDriver;
    if (value == "numa") return CoherentMode::kNuma;
  }
  return CoherentMode::kUnknown;
}

NvidiaFiles ReadNvidiaFiles(const Sysroot& root) {
  NvidiaFiles files;
  const std::optional<std::string> version = root.Read("/proc/driver/nvidia/version");
  if (version) files.version = ParseNvidiaVersion(*version);
  const std::optional<uint64_t> major = ParseNumber(files.version.substr(0, files.version.find('.')));
  if (major && *major < 100000) files.major = static_cast<int>(*major);
  const std::optional<std::string> params = root.Read("/proc/driver/nvidia/params");
  files.params_read = params.has_value();
  if (params) files.coherent = ParseCoherentMode(*params);
  return files;
}

std::vector<GpuHint> ParseNvidiaSmi(std::string_view text) {
  std::vector<GpuHint> hints;
  for (const std::string_view line : SplitLines(text)) {
    GpuHint hint;
    if (ParseNameRow(line, &hint)) {
      if (hints.size() == kMostGpus) break;
      hints.push_back(hint);
    } else if (!hints.empty() && hints.back().bytes == 0) {
      hints.back().bytes = TotalMemory(line);
      hints.back().integrated = hints.back().integrated || SaysNoMemory(line);
    }
  }
  return hints;
}

std::vector<GpuHint> ReadGpuHints(const Sysroot& root) {
  if (!root.IsMachine()) {
    const std::optional<std::string> text = root.Read("/nvidia-smi.txt");
    std::vector<GpuHint> hints = ParseNvidiaSmi(text.value_or(""));
    if (!hints.empty()) return hints;
  }
  std::vector<GpuHint> hints;
  constexpr char kGpus[] = "/proc/driver/nvidia/gpus";
  for (const std::string& address : root.List(kGpus)) {
    const std::string text = root.Read(std::string(kGpus) + "/" + address + "/information").value_or("");
    GpuHint hint;
    hint.pci_address = address;
    for (const std::string_view line : SplitLines(text)) {
      if (line.starts_with("Model:")) hint.name = std::string(Trim(line.substr(6)));
    }
    hint.integrated = IsIntegrated(hint.name) || IsTegra(root);
    hints.push_back(hint);
  }
  return hints;
}

}  // namespace gpuroom
