// Profiles of the simulated driver, as --sim takes them.
#include <string>

#include "fuzz.h"
#include "profile.h"

using gpuroom::fuzz::Require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gpuroom::sim::Profile profile;
  std::string error;
  if (!gpuroom::sim::ParseProfile(gpuroom::fuzz::Input(data, size).TakeRest(), &profile, &error)) {
    Require(!error.empty(), "a refusal says why");
    return 0;
  }
  // A machine may have no GPU: "0x80GiB".
  Require(profile.devices >= 0 && profile.nodes > 0 && profile.hbm > 0, "a machine has nodes and memory");
  for (int node = 0; node < profile.nodes; ++node) {
    Require(profile.NodeCapacity(node) <= profile.host, "a node has no more than the machine");
  }
  return 0;
}
