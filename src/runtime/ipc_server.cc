#include "runtime/ipc_server.h"

#include <sys/random.h>
#include <unistd.h>

#include <cstdlib>

#include "base/detached_thread.h"
#include "base/log.h"
#include "tier/ledger_owner.h"

namespace gpuroom {
namespace {

Status NewTicket(IpcTicket* out) {
  out->pid = static_cast<uint32_t>(getpid());
  out->start = CurrentOwner().start;
  const ssize_t secret = static_cast<ssize_t>(out->secret.size());
  const bool random = getrandom(&out->name, sizeof out->name, 0) == sizeof out->name &&
                      getrandom(out->secret.data(), out->secret.size(), 0) == secret;
  return random ? Status() : Status(Code::kSystem, "getrandom");
}

// Drivers do not like calls of other threads while they shut down.
void StopAtExit() { IpcService::StopAll(); }

}  // namespace

IpcServer& IpcServer::Get(Runtime& rt) {
  static IpcServer* server = new IpcServer(rt);
  return *server;
}

Status IpcServer::Start() {
  IpcTicket self;
  const Status status = NewTicket(&self);
  if (!status.ok()) return status;
  Result<IpcSocket> listener = IpcSocket::Listen(self.name);
  if (!listener.ok()) return listener.status();
  static const int registered = std::atexit(StopAtExit);
  (void)registered;
  const auto service = std::make_shared<IpcService>(rt_, std::move(*listener), self);
  const Status started = StartDetached("gpuroom-ipc", [service] { service->Run(); });
  if (started.ok()) service_ = service;
  return started;
}

Result<CUipcMemHandle> IpcServer::Export(CUdeviceptr address) {
  MutexLock lock(mutex_);
  if (service_ != nullptr && !service_->Listening()) {
    Log(LogLevel::kWarn, "the program closed a descriptor of gpuroom's; its earlier IPC handles are void");
    service_ = nullptr;
  }
  const Status status = service_ == nullptr ? Start() : Status();
  if (!status.ok()) return status;
  const Result<IpcTicket> ticket = service_->Export(address);
  if (!ticket.ok()) return ticket.status();
  return EncodeTicket(*ticket);
}

bool IpcServer::IsOwn(const IpcTicket& ticket) {
  MutexLock lock(mutex_);
  return service_ != nullptr && service_->self().SameProcess(ticket);
}

}  // namespace gpuroom
