#include "runtime/intent.h"

namespace gpuroom {

void ThreadIntent::SetTag(const char* text) {
  tag_id = TagOf(text);
  tag = TagName(tag_id);
}

ThreadIntent& IntentAtFirst() {
  static ThreadIntent intent;
  return intent;
}

ThreadIntent& IntentOfThread() {
  __attribute__((tls_model("initial-exec"))) static thread_local ThreadIntent t_intent;
  __attribute__((tls_model("initial-exec"))) static thread_local bool t_known = false;
  if (!t_known) {
    t_known = true;
    t_intent = IntentAtFirst();
  }
  return t_intent;
}

void MarkByThread(Placed* placed) {
  placed->tag = IntentOfThread().tag_id;
  placed->dispensable = IntentOfThread().dispensable;
}

PlanRequest IntentFor(const Runtime& rt, uint64_t bytes) {
  PlanRequest request;
  request.bytes = bytes;
  const ThreadIntent& thread = IntentOfThread();
  request.policy = thread.policy.value_or(rt.options.policy);
  request.backend = thread.backend.value_or(rt.options.backend);
  request.hint = thread.hint;
  rt.options.rules.Apply(bytes, thread.tag, &request);
  return request;
}

PlanRequest IntentFor(const Runtime& rt, const DeviceState& device, uint64_t bytes) {
  PlanRequest request = IntentFor(rt, bytes);
  request.resident = bytes < device.resident_below;
  return request;
}

bool WantsDevice(const PlanRequest& request) {
  if (request.hint != Hint::kNone) return request.hint == Hint::kHot;
  return request.resident || request.policy == Policy::kGpuFirst;
}

}  // namespace gpuroom
