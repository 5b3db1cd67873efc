#include "runtime/intent.h"

#include <cstring>

namespace headroom {
namespace {

struct ThreadIntent {
  Hint hint;
  char tag[64];
};

__attribute__((tls_model("initial-exec"))) thread_local ThreadIntent t_intent = {};

}  // namespace

void SetThreadHint(Hint hint, const char* tag) {
  t_intent.hint = hint;
  std::strncpy(t_intent.tag, tag == nullptr ? "" : tag, sizeof t_intent.tag - 1);
}

PlanRequest IntentFor(const Runtime& rt, uint64_t bytes) {
  PlanRequest request;
  request.bytes = bytes;
  request.policy = rt.options.policy;
  request.backend = rt.options.backend;
  request.hint = t_intent.hint;
  request.resident = bytes < rt.options.resident_below;
  rt.options.rules.Apply(bytes, t_intent.tag, &request);
  return request;
}

bool WantsDevice(const PlanRequest& request) {
  if (request.hint != Hint::kNone) return request.hint == Hint::kHot;
  return request.resident || request.policy == Policy::kGpuFirst;
}

}  // namespace headroom
