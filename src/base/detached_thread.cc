#include "base/detached_thread.h"

#include <pthread.h>

#include <memory>
#include <utility>

#include "base/blocked_signals.h"
#include "base/log.h"
#include "base/no_memory.h"

namespace gpuroom {
namespace {

struct Start {
  const char* name;
  std::function<void()> body;
};

void* Run(void* argument) {
  const std::unique_ptr<Start> start(static_cast<Start*>(argument));
  pthread_setname_np(pthread_self(), start->name);
  const Status status = OrNoMemory([&] {
    start->body();
    return Status();
  });
  if (!status.ok()) Log(LogLevel::kError, "the thread %s ends: %s", start->name, status.what());
  return nullptr;
}

}  // namespace

Status StartDetached(const char* name, std::function<void()> body) {
  auto start = std::make_unique<Start>(Start{name, std::move(body)});
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  const BlockedSignals blocked;
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, Run, start.get());
  pthread_attr_destroy(&attributes);
  if (error != 0) return Status(Code::kSystem, "pthread_create", error);
  (void)start.release();  // the thread's now
  return Status();
}

}  // namespace gpuroom
