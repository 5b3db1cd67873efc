#include "topology/sysroot.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>

namespace gpuroom {
namespace {

constexpr size_t kMaxFileBytes = size_t{4} << 20;
constexpr uint64_t kMaxId = 4095;

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

std::optional<std::string> ReadAll(int fd) {
  std::string text;
  char buffer[8192];
  while (text.size() < kMaxFileBytes) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::nullopt;
    if (n == 0) break;
    text.append(buffer, static_cast<size_t>(n));
  }
  return text;
}

// A path as Sysroot::Files has it: without the slashes around it.
std::string_view Key(TemporaryString auto&& path) = delete;
std::string_view Key(std::string_view path) {
  if (path.starts_with('/')) path.remove_prefix(1);
  if (path.ends_with('/')) path.remove_suffix(1);
  return path;
}

std::vector<std::string> ListFiles(const Sysroot::Files& files, std::string_view path) {
  std::vector<std::string> names;
  const std::string folder = std::string(Key(path)) + "/";
  for (auto at = files.lower_bound(folder); at != files.end() && at->first.starts_with(folder); ++at) {
    const std::string_view rest = std::string_view(at->first).substr(folder.size());
    const std::string_view name = rest.substr(0, rest.find('/'));
    if (!name.empty() && name[0] != '.' && (names.empty() || names.back() != name)) names.emplace_back(name);
  }
  return names;
}

}  // namespace

std::string Sysroot::Full(std::string_view path) const {
  std::string full = root_.empty() ? "/" : root_;
  if (full.back() != '/') full += '/';
  return full.append(path.substr(path.starts_with('/') ? 1 : 0));
}

std::optional<std::string> Sysroot::Read(std::string_view path) const {
  if (files_ != nullptr) {
    const auto found = files_->find(Key(path));
    return found == files_->end() ? std::nullopt : std::optional(found->second);
  }
  // O_NONBLOCK: a fixture with a pipe in a file's place must not hang us.
  const int fd = open(Full(path).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return std::nullopt;
  std::optional<std::string> text = ReadAll(fd);
  close(fd);
  return text;
}

std::optional<std::string> Sysroot::ReadLine(std::string_view path) const {
  const std::optional<std::string> text = Read(path);
  if (!text) return std::nullopt;
  return std::string(Trim(*text));
}

std::vector<std::string> Sysroot::List(std::string_view path) const {
  if (files_ != nullptr) return ListFiles(*files_, path);
  std::vector<std::string> names;
  const std::unique_ptr<DIR, CloseDirectory> directory(opendir(Full(path).c_str()));
  if (!directory) return names;
  while (const dirent* entry = readdir(directory.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool Sysroot::IsDirectory(std::string_view path) const {
  if (files_ != nullptr) return !ListFiles(*files_, path).empty();
  struct stat info;
  return stat(Full(path).c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace(" \t\r\n\0", 5);
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::vector<std::string_view> SplitLines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

std::optional<uint64_t> ParseNumber(std::string_view text, int base) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<int> ParseIdList(std::string_view text) {
  std::vector<int> ids;
  text = Trim(text);
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    const size_t dash = part.find('-');
    const std::optional<uint64_t> first = ParseNumber(part.substr(0, dash));
    const std::optional<uint64_t> last =
        dash == std::string_view::npos ? first : ParseNumber(part.substr(dash + 1));
    if (!first || !last || *first > *last || *last > kMaxId) return {};
    if (!ids.empty() && *first <= static_cast<uint64_t>(ids.back())) return {};
    for (uint64_t id = *first; id <= *last; ++id) ids.push_back(static_cast<int>(id));
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  return ids;
}

}  // namespace gpuroom
