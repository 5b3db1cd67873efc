// Failures on demand, and counts of calls.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "gpuroom_hip_sim.h"
#include "state.h"

namespace gpuroom::hip_sim {
namespace {

struct Rule {
  std::string name;
  uint64_t call = 0;
  uint64_t seen = 0;
  bool onwards = false;
  hipError_t result = hipErrorOutOfMemory;
};

struct Counts {
  std::map<std::string, uint64_t> calls;
  std::vector<Rule> rules;
  bool read = false;  // the environment
};
Counts& GetCounts() {
  static auto* counts = new Counts;
  return *counts;
}

bool ReadRule(const std::string& text, Rule* rule) {
  std::istringstream in(text);
  int result = hipErrorOutOfMemory;
  if (!std::getline(in, rule->name, ':') || !(in >> rule->call) || rule->call == 0) return false;
  if (in.peek() == '+') rule->onwards = in.get() == '+';
  if (in.peek() == ':') in.ignore() >> result;
  rule->result = static_cast<hipError_t>(result);
  return !in.fail() && in.peek() == std::char_traits<char>::eof();
}

void SetRules(const char* spec) {
  Counts& counts = GetCounts();
  counts.read = true;
  counts.rules.clear();
  std::istringstream in(spec != nullptr ? spec : "");
  for (std::string text; std::getline(in, text, ',');) {
    Rule rule;
    if (ReadRule(text, &rule)) {
      counts.rules.push_back(std::move(rule));
    } else {
      std::fprintf(stderr,
                   "gpuroom hip sim: failure rule '%s' is not understood; write NAME:N or NAME:N:RESULT\n",
                   text.c_str());
    }
  }
}

}  // namespace

hipError_t Enter(const char* name) {
  Counts& counts = GetCounts();
  if (!counts.read) SetRules(std::getenv("GPUROOM_SIM_FAIL"));
  ++counts.calls[name];
  hipError_t result = hipSuccess;
  for (Rule& rule : counts.rules) {
    if (rule.name != "*" && rule.name != name) continue;
    ++rule.seen;
    if (rule.seen == rule.call || (rule.onwards && rule.seen > rule.call)) result = rule.result;
  }
  return result;
}

}  // namespace gpuroom::hip_sim

namespace sim = gpuroom::hip_sim;

HIP_SIM_API uint64_t gpuroom_hip_sim_call_count(const char* name) {
  const std::lock_guard<std::mutex> lock(sim::GetState().mutex);
  uint64_t total = 0;
  for (const auto& [called, count] : sim::GetCounts().calls) {
    if (std::strcmp(name, "*") == 0 || called == name) total += count;
  }
  return total;
}

HIP_SIM_API void gpuroom_hip_sim_fail(const char* spec) {
  const std::lock_guard<std::mutex> lock(sim::GetState().mutex);
  sim::SetRules(spec);
}
