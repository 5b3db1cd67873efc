#include "model.h"

#include <algorithm>

namespace gpuroom::soak {
namespace {

constexpr uint64_t kBorder = 2 * kMiB;

}  // namespace

uint64_t Pattern::Word(uint64_t index) const {
  if (kind == Kind::kConstant) return seed;
  uint64_t z = seed + index + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::vector<Cell> MakeCells(uint64_t bytes, std::mt19937_64& random) {
  if (bytes < 3 * kCellBytes) return {{0, bytes / 8 * 8, {}}};
  std::vector<Cell> cells = {{0, kCellBytes, {}}};
  const uint64_t last = (bytes - kCellBytes) / 8 * 8;
  for (uint64_t at = 0; at + kCellBytes <= last; at += kBorder) {
    if (at > 0) cells.push_back({at - kCellBytes / 2, kCellBytes, {}});
    const uint64_t first = at + kCellBytes;
    const uint64_t end = std::min(at + kBorder - kCellBytes, last);
    if (end < first + 2 * kCellBytes) continue;
    const uint64_t room = (end - first - kCellBytes) / 8;
    cells.push_back({first + random() % room * 8, kCellBytes, {}});
  }
  cells.push_back({last, kCellBytes, {}});
  return cells;
}

}  // namespace gpuroom::soak
