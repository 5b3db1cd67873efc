// IpcServer: the exporter's side of shared ranges. One thread, started with the
// first handle that the program asks for, answers the processes that open it. It
// blocks all signals, calls nothing of the program's, never waits for one client
// while others ask, and does not keep the process alive.
//
// A range is pinned (Placed::pins) while a connection that got it is open, and no
// longer: the kernel closes it when its process ends, however that happens.
#pragma once

#include <atomic>
#include <vector>

#include "base/mutex.h"
#include "shim/ipc_socket.h"
#include "shim/ipc_wire.h"
#include "shim/runtime.h"

namespace headroom::shim {

class IpcServer {
 public:
  static IpcServer& Get(Runtime& rt);

  // The handle of the range that holds `address`, the same each time. kNotFound:
  // no range does.
  Result<CUipcMemHandle> Export(CUdeviceptr address);
  // Whether this process gave the handle out.
  bool IsOwn(const IpcTicket& ticket);

 private:
  // Of one importer that opens, or holds, one range.
  struct Connection {
    IpcSocket socket;
    uint64_t deadline = 0;  // for its next message; 0: it has all that it asked for
    uint64_t range = 0;     // Placed::order
    uint32_t next = 0;      // chunk to send
    uint32_t chunks = 0;
    bool pinned = false;
    bool over = false;
  };

  explicit IpcServer(Runtime& rt) : rt_(rt) {}
  Status Start() HEADROOM_REQUIRES(mutex_);
  static void* Main(void* server);
  static void StopAtExit();
  void Serve();
  int Timeout() const;
  void AcceptAll();
  // These return false where the connection is to end.
  bool Answer(Connection& connection);
  bool Begin(Connection& connection, const IpcTicket& asked);
  bool SendBatch(Connection& connection);
  Status FillBatch(const Connection& connection, IpcBatch* batch, IpcDescriptors* descriptors);
  void Unpin(Connection& connection);
  template <typename Use>
  bool WithRange(uint64_t order, Use use);

  Runtime& rt_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> busy_{false};  // the thread may be in a driver call
  Mutex mutex_;
  bool running_ HEADROOM_GUARDED_BY(mutex_) = false;
  Mutex flags_mutex_;  // for Placed::exported of all ranges
  // Set before the thread starts and then the thread's alone, but for reading self_.
  IpcTicket self_;
  IpcSocket listener_;
  std::vector<Connection> connections_;
  uint64_t accept_after_ = 0;
};

}  // namespace headroom::shim
