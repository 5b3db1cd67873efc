// What begins with this process's first use of a GPU: other processes may call the functions of
// gpuroom/sleep.h, and its GPUs are shared where that was asked for.
#include "sleep/control.h"

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

}  // namespace

void NoticeFirstUse() {
  StartControl({gpuroom_sleep, gpuroom_wake, gpuroom_sleep_states, gpuroom_last_error, Stats});
  StartSharing();
}

}  // namespace gpuroom
