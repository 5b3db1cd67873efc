// What begins with this process's first use of a GPU: other processes may call the functions of
// gpuroom/sleep.h and set hints, and its GPUs are shared where that was asked for.
#include "sleep/control.h"

#include <algorithm>

#include "capi/answer.h"
#include "capi/tag_list.h"
#include "runtime/process_stats.h"
#include "runtime/runtime.h"
#include "share/share_member.h"

namespace gpuroom {
namespace {

bool Stats(ProcessStats* out) {
  Runtime* rt = Runtime::Existing();
  if (rt == nullptr) return false;
  *out = ReadProcessStats(*rt);
  return true;
}

// ControlCalls::hint.
int SetHint(const char* const* names, size_t count, int hint, uint64_t* ranges) try {
  Entry rt;
  ClearError();
  if (!rt) return Answer(Status(Code::kUnsupported, kNotHere));
  std::vector<TagId> tags;
  const Status status = ReadTagList(names, count, &tags);
  if (!status.ok()) return Answer(status);
  rt->memory.WithAll([&](const std::vector<Placed*>& all) {
    for (Placed* placed : all) {
      if (placed->shared) continue;  // by small allocations that have no hint of their own
      if (!tags.empty() && std::find(tags.begin(), tags.end(), placed->tag) == tags.end()) continue;
      placed->SetHint(static_cast<Hint>(hint));
      ++*ranges;
    }
  });
  return GPUROOM_OK;
} catch (const std::exception& error) {
  return AnswerException(error);
}

}  // namespace

void NoticeFirstUse() {
  StartControl({gpuroom_sleep, gpuroom_wake, gpuroom_sleep_states, gpuroom_last_error, Stats, SetHint});
  StartSharing();
}

}  // namespace gpuroom
