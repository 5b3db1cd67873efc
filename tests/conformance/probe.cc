#include "probe.h"

#include <sstream>

#include "expectations.h"

namespace headroom::conformance {

ProbeList AllProbes() {
  ProbeList list;
  AddBasicProbes(list);
  AddLookupProbes(list);
  AddErrorProbes(list);
  AddVmmProbes(list);
  AddMixedProbes(list);
  AddPointerProbes(list);
  AddCaptureProbes(list);
  AddOrderingProbes(list);
  AddAsyncProbes(list);
  AddResetProbes(list);
  AddPeerProbes(list);
  AddPeerLegacyProbes(list);
  return list;
}

std::string Ask(const Probe& probe, Session& session) {
  try {
    if (probe.isolation != Isolation::kBare) session.Start();
    return probe.body(session);
  } catch (const ProbeFailure& failure) {
    return failure.what();
  }
}

std::map<std::string, std::string> Expectations() {
  std::map<std::string, std::string> expectations;
  std::istringstream text(kExpectations);
  for (std::string line; std::getline(text, line);) {
    const size_t equals = line.find(" = ");
    if (line.empty() || line[0] == '#' || equals == std::string::npos) continue;
    expectations[line.substr(0, equals)] = line.substr(equals + 3);
  }
  return expectations;
}

}  // namespace headroom::conformance
