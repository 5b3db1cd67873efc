// Reading the small files of /proc and /sys below a root directory, which tests
// replace by a fixture, or by files in memory. Everything here treats what it reads as untrusted: a
// missing, empty, truncated or absurd file gives no value, never a crash.
// Stateless; any thread. Writes nothing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/temporary.h"

namespace gpuroom {

// 1 PiB: a file that says that a machine or a part of it has more is broken. Sums of a machine's parts stay
// within 64 bits.
inline constexpr uint64_t kMostPlausibleBytes = uint64_t{1} << 50;

class Sysroot {
 public:
  // Texts by path, such as "proc/meminfo".
  using Files = std::map<std::string, std::string, std::less<>>;

  explicit Sysroot(std::string root) : root_(std::move(root)) {}
  // Of these files and no others; `files` outlives it.
  explicit Sysroot(const Files* files) : root_("memory"), files_(files) {}

  // The file's text, cut at 4 MiB; nullopt when it cannot be opened or read.
  std::optional<std::string> Read(std::string_view path) const;
  // The same without white space at both ends.
  std::optional<std::string> ReadLine(std::string_view path) const;
  // Names in a directory, sorted; empty when there is none.
  std::vector<std::string> List(std::string_view path) const;
  bool IsDirectory(std::string_view path) const;
  // True for the machine itself, false for a fixture.
  bool IsMachine() const { return root_.empty() || root_ == "/"; }

 private:
  std::string Full(std::string_view path) const;
  std::string root_;
  const Files* files_ = nullptr;  // null: the files below root_
};

// Views of `text`, which outlives them.
std::string_view Trim(std::string_view text);
std::string_view Trim(TemporaryString auto&& text) = delete;
std::vector<std::string_view> SplitLines(std::string_view text);
std::vector<std::string_view> SplitLines(TemporaryString auto&& text) = delete;
// All of `text` as a number; nullopt on anything else and on overflow.
std::optional<uint64_t> ParseNumber(std::string_view text, int base = 10);
// "0,2-5" as ids; empty on malformed text, on ids over 4095, and where they do not ascend, as the kernel
// writes them: so no text makes more than 4096.
std::vector<int> ParseIdList(std::string_view text);

}  // namespace gpuroom
