// HostPart: how much of the node's host memory each GPU of a program may use, as options and variables say
// it. Without parts every GPU is shown all of the host limit and the first who asks gets it; with parts, each
// rank of an engine is shown what it can really get. Plain values, no driver. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/limit.h"
#include "base/status.h"

namespace gpuroom {

struct HostPart {
  enum class Kind {
    kAuto,   // an equal part for each rank that a launcher started on this node; all of it where none did
    kEqual,  // an equal part for each GPU that the process sees
    kLimit,  // `limit`, of the host limit
  };

  Kind kind = Kind::kAuto;
  Limit limit;

  // Bytes that each GPU may use of a host limit of `host_limit` bytes, a multiple of 2 MiB. 0: no part, all
  // GPUs share what there is. `gpus`: how many the process sees.
  uint64_t Of(uint64_t host_limit, int gpus) const;
};

// "auto", "equal", or what ParseLimit takes. kInvalidArgument otherwise; the text says what is wrong.
Result<HostPart> ParseHostPart(std::string_view text);
// The same form, sizes in bytes.
std::string FormatHostPart(const HostPart& part);

// How many processes of its job a launcher started on this node, by the variables that torchrun and Slurm set
// for each of them; 1: none did, or none says.
int RanksOnNode();

}  // namespace gpuroom
