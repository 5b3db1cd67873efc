// _exit and _Exit, as the shim exports them: the C library's own end the process without a word to anybody.
// Its exit and quick_exit do not come by these.
#include <unistd.h>

#include <cstdlib>

#include "runtime/process_end.h"

extern "C" {

void _exit(int status) { gpuroom::LeaveAtOnce(status); }
void _Exit(int status) noexcept { gpuroom::LeaveAtOnce(status); }

}  // extern "C"
