#include "runtime/process_end.h"

#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

#include "runtime/report.h"
#include "runtime/runtime.h"
#include "runtime/unserved.h"

namespace gpuroom {
namespace {

// The report comes when the program's own destructors have run or are about to;
// the state stays usable for those that follow.
__attribute__((destructor)) void EndByExit() {
  Runtime* runtime = Runtime::Existing();
  if (runtime != nullptr) WriteLastReport(*runtime, ProcessEnd::kOrderly);
  // Nothing passed us, but somebody opened the driver.
  if (runtime == nullptr && dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD) != nullptr) LogUnserved();
}

}  // namespace

void WatchQuickExit() {
  static const int registered = std::at_quick_exit([] {
    Runtime* runtime = Runtime::Existing();
    if (runtime != nullptr) WriteLastReport(*runtime, ProcessEnd::kOrderly);
  });
  (void)registered;
}

void LeaveAtOnce(int status) noexcept {
  Runtime* runtime = Runtime::Existing();
  if (runtime != nullptr) WriteLastReport(*runtime, ProcessEnd::kAtOnce);
  for (;;) syscall(SYS_exit_group, status);
}

}  // namespace gpuroom
