// IpcServer: makes handles of this process's ranges, and starts the thread that
// answers those who open them with the first one. The thread blocks all signals
// and does not keep the process alive. Any thread.
#pragma once

#include <memory>

#include "base/mutex.h"
#include "runtime/ipc_service.h"

namespace gpuroom {

class IpcServer {
 public:
  static IpcServer& Get(Runtime& rt);

  // The handle of the range that holds `address`, the same each time. kNotFound:
  // no range does.
  Result<CUipcMemHandle> Export(CUdeviceptr address);
  // Whether this process gave the handle out.
  bool IsOwn(const IpcTicket& ticket);

 private:
  explicit IpcServer(Runtime& rt) : rt_(rt) {}
  Status Start() GPUROOM_REQUIRES(mutex_);

  Runtime& rt_;
  Mutex mutex_;
  std::shared_ptr<IpcService> service_ GPUROOM_GUARDED_BY(mutex_);
};

}  // namespace gpuroom
