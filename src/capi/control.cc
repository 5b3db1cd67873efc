// Offers the functions of gpuroom/sleep.h to other processes, from this one's first use of a GPU on.
#include "sleep/control.h"

#include "runtime/process_stats.h"
#include "runtime/runtime.h"

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
}

}  // namespace gpuroom
