// Offers the functions of headroom/sleep.h to other processes, from this one's first use of a GPU on.
#include "sleep/control.h"

#include "runtime/runtime.h"

namespace headroom {
namespace {

void Offer() { StartControl({headroom_sleep, headroom_wake, headroom_sleep_states, headroom_last_error}); }

[[maybe_unused]] const bool g_offered = (Runtime::AtFirstUse(Offer), true);

}  // namespace
}  // namespace headroom
