// A probe asks the driver one question and puts the answer in one line of text,
// with nothing in it that changes from run to run. The suite's tests compare it
// with expectations.txt; --observe prints it in that file's own form.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "session.h"

namespace gpuroom::conformance {

using ProbeBody = std::function<std::string(Session&)>;

// kIsolated: the probe may break the context; it gets a worker process of its
// own. kBare: the same, and nothing but the binding is done before it, no cuInit.
enum class Isolation { kShared, kIsolated, kBare };

struct Probe {
  std::string name;  // topic.question, as expectations.txt has it
  ProbeBody body;
  Isolation isolation = Isolation::kShared;
};

using ProbeList = std::vector<Probe>;

// A probe that cannot ask its question on this machine answers this and why.
inline constexpr char kNotHere[] = "not here: ";

void AddBasicProbes(ProbeList& list);
void AddLookupProbes(ProbeList& list);
void AddErrorProbes(ProbeList& list);
void AddVmmProbes(ProbeList& list);
void AddMixedProbes(ProbeList& list);
void AddPointerProbes(ProbeList& list);
void AddCaptureProbes(ProbeList& list);
void AddOrderingProbes(ProbeList& list);
void AddAsyncProbes(ProbeList& list);
void AddObjectProbes(ProbeList& list);
void AddResetProbes(ProbeList& list);
void AddPeerProbes(ProbeList& list);
void AddPeerLegacyProbes(ProbeList& list);
ProbeList AllProbes();

// Starts the session unless the probe is bare, and runs the body; a
// ProbeFailure's text is the answer too.
std::string Ask(const Probe& probe, Session& session);

// The embedded expectations.txt, by the probe's name. `exempt` is what the
// simulated driver may answer where it need not do as the real one was seen to.
struct Expected {
  std::map<std::string, std::string> answers;
  std::map<std::string, std::string> exempt;
};
Expected Expectations();

}  // namespace gpuroom::conformance
