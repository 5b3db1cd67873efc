// Offers the functions of gpuroom/sleep.h to other processes, from this one's first use of a GPU on.
#include "sleep/control.h"

#include "runtime/runtime.h"

namespace gpuroom {

void NoticeFirstUse() {
  StartControl({gpuroom_sleep, gpuroom_wake, gpuroom_sleep_states, gpuroom_last_error});
}

}  // namespace gpuroom
