// What the program says of its memory: hints, policy, tags.
#include <exception>

#include "capi/answer.h"
#include "runtime/intent.h"

namespace gpuroom {
namespace {

bool IsHint(int hint) { return hint >= GPUROOM_HINT_NONE && hint <= GPUROOM_HINT_STREAM; }

Status CheckPlacement(int policy, int backend, int hint, const char* tag) {
  if (policy < GPUROOM_POLICY_DEFAULT || policy > GPUROOM_POLICY_CPU_FIRST)
    return Status(Code::kInvalidArgument, "policy must be a gpuroom_policy");
  if (backend < GPUROOM_BACKEND_DEFAULT || backend > GPUROOM_BACKEND_MANAGED)
    return Status(Code::kInvalidArgument, "backend must be a gpuroom_backend");
  if (!IsHint(hint)) return Status(Code::kInvalidArgument, "hint must be a gpuroom_hint");
  if (tag != nullptr && *tag != '\0' && !IsTag(tag))
    return Status(Code::kInvalidArgument, "a tag is 1 to 63 bytes without control characters, ',' and ';'");
  return Status();
}

}  // namespace
}  // namespace gpuroom

using namespace gpuroom;

extern "C" {
#pragma GCC visibility push(default)

int gpuroom_set_hint(uint64_t address, int hint) try {
  Entry rt;
  ClearError();
  if (!IsHint(hint)) return Answer(Status(Code::kInvalidArgument, "hint must be a gpuroom_hint"));
  if (!rt) return Answer(Status(Code::kUnsupported, kNotHere));
  bool found = false;
  rt->memory.WithPlaced(address, [hint, &found](Placed& placed, CUdeviceptr) {
    found = !placed.shared;
    if (found) placed.SetHint(static_cast<Hint>(hint));
  });
  return found ? GPUROOM_OK : Answer(Status(Code::kNotFound, kNothingThere));
} catch (const std::exception& error) {
  return AnswerException(error);
}

int gpuroom_set_thread_placement(int policy, int backend, int hint, const char* tag) try {
  ClearError();
  const Status status = CheckPlacement(policy, backend, hint, tag);
  if (!status.ok()) return Answer(status);
  ThreadIntent& intent = IntentOfThread();
  const bool dispensable = intent.dispensable;
  intent = {};
  intent.dispensable = dispensable;
  if (policy != GPUROOM_POLICY_DEFAULT) intent.policy = static_cast<Policy>(policy);
  if (backend != GPUROOM_BACKEND_DEFAULT) intent.backend = static_cast<Backend>(backend);
  intent.hint = static_cast<Hint>(hint);
  if (tag != nullptr) intent.SetTag(tag);
  return GPUROOM_OK;
} catch (const std::exception& error) {
  return AnswerException(error);
}

int gpuroom_set_thread_hint(int hint, const char* tag) try {
  return gpuroom_set_thread_placement(GPUROOM_POLICY_DEFAULT, GPUROOM_BACKEND_DEFAULT, hint, tag);
} catch (const std::exception& error) {
  return AnswerException(error);
}

#pragma GCC visibility pop
}  // extern "C"
