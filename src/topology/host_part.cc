#include "topology/host_part.h"

#include <algorithm>
#include <charconv>

#include "base/env.h"
#include "base/size.h"

namespace gpuroom {
namespace {

constexpr uint64_t kChunk = 2 * kMiB;
constexpr int kMostRanks = 1024;

// The number that a variable begins with; 0: it is not set, or begins with none. Slurm writes "4(x2)" for
// four on each of two nodes.
int LeadingNumber(const char* variable) {
  const char* text = env::Find(variable);
  int number = 0;
  if (text != nullptr) std::from_chars(text, text + std::string_view(text).size(), number);
  return std::clamp(number, 0, kMostRanks);
}

}  // namespace

int RanksOnNode() {
  for (const char* variable : {"LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"}) {
    const int ranks = LeadingNumber(variable);
    if (ranks > 0) return ranks;
  }
  return 1;
}

uint64_t HostPart::Of(uint64_t host_limit, int gpus) const {
  if (kind == Kind::kLimit) return RoundDown(limit.Of(host_limit), kChunk);
  const int parts = kind == Kind::kEqual ? std::max(gpus, 1) : RanksOnNode();
  return parts > 1 ? RoundDown(host_limit / static_cast<uint64_t>(parts), kChunk) : 0;
}

Result<HostPart> ParseHostPart(std::string_view text) {
  HostPart part;
  if (text == "auto") return part;
  part.kind = text == "equal" ? HostPart::Kind::kEqual : HostPart::Kind::kLimit;
  if (part.kind == HostPart::Kind::kEqual) return part;
  const Result<Limit> limit = ParseLimit(text);
  if (!limit.ok() && !text.ends_with('%')) {
    return Status(Code::kInvalidArgument, "not a part; take auto, equal, a size such as 64GiB, or 25%");
  }
  if (!limit.ok()) return limit.status();
  part.limit = *limit;
  return part;
}

std::string FormatHostPart(const HostPart& part) {
  if (part.kind == HostPart::Kind::kLimit) return FormatLimit(part.limit);
  return part.kind == HostPart::Kind::kEqual ? "equal" : "auto";
}

}  // namespace gpuroom
