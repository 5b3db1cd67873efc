// PeerChoice: which other GPUs' memory a program may use, as options and
// variables say it. Plain values, no driver. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace gpuroom {

struct PeerLoan {
  int ordinal = 0;     // CUDA's, of the GPU that lends
  uint64_t bytes = 0;  // at most; 0: whatever its own limit leaves
};

struct PeerChoice {
  enum class Kind {
    kNone,
    kAuto,  // every GPU that the program can reach and does not use itself
    kList,
  };
  static constexpr int kMostOrdinal = 63;
  static constexpr uint64_t kLeast = 2 << 20;  // bytes of a loan: one chunk

  Kind kind = Kind::kNone;
  std::vector<PeerLoan> list;  // kList: not empty, in the order given, no ordinal twice
};

// "none", "auto", or ordinals with an optional size: "1:20GiB,2".
// kInvalidArgument otherwise; the text says what is wrong.
Result<PeerChoice> ParsePeerChoice(std::string_view text);
// The same form, sizes in bytes.
std::string FormatPeerChoice(const PeerChoice& choice);

}  // namespace gpuroom
