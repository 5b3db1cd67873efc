// The machine that `gpuroom plan` plans for: this one, a simulated one, one described in a file, or the copy
// of another one's /proc and /sys.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/exit_codes.h"
#include "topology/link_speeds.h"

namespace gpuroom {

struct PlanMachine {
  std::string where;  // "this machine", "profile gh200-egm", "machine.json", ...
  std::string gpu;    // its name
  int gpus = 1;
  uint64_t hbm = 0;     // bytes of one GPU
  uint64_t host = 0;    // bytes that gpuroom may use, of all GPUs together
  std::string host_is;  // where that figure is from
  LinkSpeeds speeds;
  std::string speeds_are;   // "measured 2026-11-21T12:00:00Z", "estimated", "published", "given"
  double bf16_flops = 0;    // a second; 0: not known
  bool integrated = false;  // no memory but the host's
};

// What --machine and --sysroot say; both empty: this machine. An existing file goes before a profile's name.
struct MachineChoice {
  std::string machine;
  std::string sysroot;
};

// kExitNoDriver where this machine has no usable GPU; kExitUsage for what cannot be read.
Failure ReadPlanMachine(const MachineChoice& choice, PlanMachine* machine);

// A machine in JSON, as `gpuroom plan --json` prints it: {"gpu": ..., "hbm_bytes": ..., ...}, also within
// "machine". `path` names it in sentences.
Failure ParseMachineFile(const std::string& path, const std::string& text, PlanMachine* machine);

}  // namespace gpuroom
