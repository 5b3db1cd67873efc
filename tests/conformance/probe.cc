#include "probe.h"

#include <sstream>
#include <string_view>

#include "expectations.h"

namespace gpuroom::conformance {

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
  AddObjectProbes(list);
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

Expected Expectations() {
  constexpr std::string_view kExempt = "simulator-exempt ";
  Expected expected;
  std::istringstream text(kExpectations);
  for (std::string line; std::getline(text, line);) {
    const bool exempt = line.rfind(kExempt, 0) == 0;
    if (exempt) line = line.substr(kExempt.size(), line.find(" because ") - kExempt.size());
    const size_t equals = line.find(" = ");
    if (line.empty() || line[0] == '#' || equals == std::string::npos) continue;
    (exempt ? expected.exempt : expected.answers)[line.substr(0, equals)] = line.substr(equals + 3);
  }
  return expected;
}

}  // namespace gpuroom::conformance
