// What the program says of its memory: hints, policy, tags.
#include "capi/answer.h"
#include "capi/target.h"
#include "runtime/displace.h"
#include "runtime/intent.h"

namespace headroom {
namespace {

bool IsHint(int hint) { return hint >= HEADROOM_HINT_NONE && hint <= HEADROOM_HINT_STREAM; }

Status CheckPlacement(int policy, int backend, int hint, const char* tag) {
  if (policy < HEADROOM_POLICY_DEFAULT || policy > HEADROOM_POLICY_CPU_FIRST)
    return Status(Code::kInvalidArgument, "policy must be a headroom_policy");
  if (backend < HEADROOM_BACKEND_DEFAULT || backend > HEADROOM_BACKEND_MANAGED)
    return Status(Code::kInvalidArgument, "backend must be a headroom_backend");
  if (!IsHint(hint)) return Status(Code::kInvalidArgument, "hint must be a headroom_hint");
  if (tag != nullptr && *tag != '\0' && !IsTag(tag))
    return Status(Code::kInvalidArgument, "a tag is 1 to 63 bytes without control characters, ',' and ';'");
  return Status();
}

}  // namespace
}  // namespace headroom

using namespace headroom;

extern "C" {
#pragma GCC visibility push(default)

int headroom_set_hint(uint64_t address, int hint) {
  Entry rt;
  ClearError();
  if (!IsHint(hint)) return Answer(Status(Code::kInvalidArgument, "hint must be a headroom_hint"));
  if (!rt) return Answer(Status(Code::kUnsupported, kNotHere));
  bool found = false;
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    if (rt->ExistingDevice(i) == nullptr) continue;
    WithPlacedOf(*rt, i, [&](const std::vector<Placed*>& all) {
      const Target target = FindTarget(all, address);
      if (target.placed == nullptr) return;
      found = true;
      target.placed->hint = static_cast<Hint>(hint);
      target.placed->wants_device = hint == HEADROOM_HINT_HOT || hint == HEADROOM_HINT_NONE;
    });
  }
  return found ? HEADROOM_OK : Answer(Status(Code::kNotFound, kNothingThere));
}

int headroom_set_thread_placement(int policy, int backend, int hint, const char* tag) {
  ClearError();
  const Status status = CheckPlacement(policy, backend, hint, tag);
  if (!status.ok()) return Answer(status);
  ThreadIntent& intent = IntentOfThread();
  const bool dispensable = intent.dispensable;
  intent = {};
  intent.dispensable = dispensable;
  if (policy != HEADROOM_POLICY_DEFAULT) intent.policy = static_cast<Policy>(policy);
  if (backend != HEADROOM_BACKEND_DEFAULT) intent.backend = static_cast<Backend>(backend);
  intent.hint = static_cast<Hint>(hint);
  if (tag != nullptr) intent.SetTag(tag);
  return HEADROOM_OK;
}

int headroom_set_thread_hint(int hint, const char* tag) {
  return headroom_set_thread_placement(HEADROOM_POLICY_DEFAULT, HEADROOM_BACKEND_DEFAULT, hint, tag);
}

#pragma GCC visibility pop
}  // extern "C"
