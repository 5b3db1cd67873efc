#include "inject.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "error_names.h"
#include "gpuroom_sim.h"
#include "state.h"

namespace gpuroom::sim {
namespace {

struct Rule {
  std::string name;  // "*": any; "": by chance
  uint64_t call = 0;
  bool later = false;  // and all calls after it
  uint64_t seen = 0;
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  uint64_t percent = 0;
  std::mt19937_64 random;
};

struct Rules {
  std::vector<Rule> list;
  std::atomic<bool> any{false};
};
Rules& GetRules() {
  static auto* rules = new Rules;
  return *rules;
}

std::atomic<CallSite*> g_sites{nullptr};

bool ParseNumber(const std::string& text, uint64_t* out) {
  char* end = nullptr;
  *out = std::strtoull(text.c_str(), &end, 0);
  return !text.empty() && *end == 0;
}

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t at = 0;
  while (at <= text.size()) {
    const size_t next = std::min(text.find(separator, at), text.size());
    parts.push_back(text.substr(at, next - at));
    at = next + 1;
  }
  return parts;
}

bool ParseRule(const std::string& text, Rule* rule) {
  const std::vector<std::string> parts = Split(text, ':');
  if (parts.size() < 2 || parts.size() > 3) return false;
  if (parts[0] == "seed") {
    uint64_t seed = 0;
    if (parts.size() != 3 || !ParseNumber(parts[1], &seed) || !ParseNumber(parts[2], &rule->percent))
      return false;
    rule->random.seed(seed);
    return rule->percent <= 100;
  }
  rule->name = parts[0];
  std::string call = parts[1];
  rule->later = call.ends_with('+');
  if (rule->later) call.pop_back();
  if (rule->name.empty() || !ParseNumber(call, &rule->call) || rule->call == 0) return false;
  return parts.size() == 2 || ParseResult(parts[2].c_str(), &rule->result);
}

// Counts a call that the rule is about.
bool Fails(Rule& rule) {
  ++rule.seen;
  return rule.seen == rule.call || (rule.later && rule.seen > rule.call);
}

}  // namespace

CallSite::CallSite(const char* function_name) : name(function_name) {
  next = g_sites.load();
  while (!g_sites.compare_exchange_weak(next, this)) {
  }
}

void SetFailureRules(const char* spec) {
  Rules& rules = GetRules();
  rules.list.clear();
  if (spec != nullptr && *spec != 0) {
    for (const std::string& text : Split(spec, ',')) {
      Rule rule;
      if (ParseRule(text, &rule)) {
        rules.list.push_back(std::move(rule));
      } else {
        std::fprintf(
            stderr,
            "gpuroom sim: failure rule '%s' is not understood; write NAME:N, NAME:N+, NAME:N:RESULT, *:N or "
            "seed:S:PERCENT\n",
            text.c_str());
      }
    }
  }
  rules.any = !rules.list.empty();
}

CUresult InjectedFailure(const char* name) {
  Rules& rules = GetRules();
  if (!rules.any.load(std::memory_order_relaxed)) return CUDA_SUCCESS;
  CUresult result = CUDA_SUCCESS;
  for (Rule& rule : rules.list) {
    if (rule.percent > 0) {
      if (rule.random() % 100 < rule.percent) result = rule.result;
    } else if (rule.name == "*" || rule.name == name) {
      if (Fails(rule)) result = rule.result;
    }
  }
  return result;
}

CUresult InjectedFailure(const char* name, const char* kind) {
  CUresult result = CUDA_SUCCESS;
  for (Rule& rule : GetRules().list) {
    if (rule.name == std::string(name) + "." + kind && Fails(rule)) result = rule.result;
  }
  return result;
}

uint64_t CallCount(const char* name) {
  uint64_t calls = 0;
  for (CallSite* site = g_sites.load(); site != nullptr; site = site->next) {
    if (std::strcmp(name, "*") == 0 || std::strcmp(name, site->name) == 0) calls += site->calls.load();
  }
  return calls;
}

}  // namespace gpuroom::sim

extern "C" {
__attribute__((visibility("default"))) uint64_t gpuroom_sim_call_count(const char* name) {
  return gpuroom::sim::CallCount(name);
}
__attribute__((visibility("default"))) void gpuroom_sim_fail(const char* spec) {
  const gpuroom::sim::Lock lock(gpuroom::sim::GetState().mutex);
  gpuroom::sim::SetFailureRules(spec);
}
}
