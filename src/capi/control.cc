// Offers the functions of headroom/sleep.h to other processes, from this one's first use of a GPU on.
#include "sleep/control.h"

#include "runtime/runtime.h"

namespace headroom {

void NoticeFirstUse() {
  StartControl({headroom_sleep, headroom_wake, headroom_sleep_states, headroom_last_error});
}

}  // namespace headroom
