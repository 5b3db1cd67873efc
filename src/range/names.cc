#include "range/names.h"

namespace gpuroom {

const char* PolicyName(Policy policy) {
  switch (policy) {
    case Policy::kGpuFirst: return "gpu_first";
    case Policy::kBalanced: return "balanced";
    case Policy::kCpuFirst: return "cpu_first";
  }
  return "unknown";
}

std::optional<Policy> ParsePolicy(std::string_view name) {
  for (const Policy policy : {Policy::kGpuFirst, Policy::kBalanced, Policy::kCpuFirst}) {
    if (name == PolicyName(policy)) return policy;
  }
  return std::nullopt;
}

const char* HintName(Hint hint) {
  switch (hint) {
    case Hint::kNone: return "none";
    case Hint::kHot: return "hot";
    case Hint::kCold: return "cold";
    case Hint::kStream: return "stream";
  }
  return "unknown";
}

std::optional<Hint> ParseHint(std::string_view name) {
  for (const Hint hint : {Hint::kNone, Hint::kHot, Hint::kCold, Hint::kStream}) {
    if (name == HintName(hint)) return hint;
  }
  return std::nullopt;
}

const char* BackendName(Backend backend) { return backend == Backend::kManaged ? "managed" : "tiers"; }

std::optional<Backend> ParseBackend(std::string_view name) {
  for (const Backend backend : {Backend::kTiers, Backend::kManaged}) {
    if (name == BackendName(backend)) return backend;
  }
  return std::nullopt;
}

}  // namespace gpuroom
