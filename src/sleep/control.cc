#include "sleep/control.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/log.h"
#include "sleep/control_directory.h"

namespace gpuroom {
namespace {

// A copy that is in progress as the program ends must not run into the driver's own end.
constexpr int kExitMilliseconds = 5000;

std::atomic<pid_t> g_starter{0};
// Of the process g_starter, for good.
std::atomic<ControlService*> g_service{nullptr};

struct Held {
  std::shared_ptr<ControlService> service;
  const Held* before;  // the parent's, in a forked child
};

// In the first folder that serves: another user may have made the name of one. The command looks into all of
// them.
std::shared_ptr<ControlService> StartSomewhere(const ControlCalls& calls) {
  const std::vector<std::string> directories = ControlDirectories();
  Status first;
  for (const std::string& directory : directories) {
    auto service = std::make_shared<ControlService>(calls, directory);
    const Status status = service->Start();
    if (status.ok()) return service;
    if (first.ok()) first = status;
  }
  Log(LogLevel::kWarn, "'gpuroom sleep' cannot reach this process through %s: %s",
      directories.front().c_str(), first.what());
  return nullptr;
}

void StopAtExit() {
  if (g_starter.load() != getpid()) return;  // a forked child: the threads are not here
  ControlService* service = g_service.load();
  if (service != nullptr) service->Stop(kExitMilliseconds);
}

}  // namespace

void StartControl(const ControlCalls& calls) {
  const char* wanted = env::Find(env::kControl);
  if (wanted == nullptr || std::strcmp(wanted, "1") != 0) return;
  const pid_t self = getpid();
  if (g_starter.exchange(self) == self) return;
  g_service.store(nullptr);  // a forked child's is its parent's
  const std::shared_ptr<ControlService> service = StartSomewhere(calls);
  if (service == nullptr) return;
  // Never given back: the process's end takes place beside its threads.
  static const Held* all = nullptr;
  all = new Held{service, all};
  g_service.store(service.get());
  static const int registered = std::atexit(StopAtExit);
  (void)registered;
}

}  // namespace gpuroom
