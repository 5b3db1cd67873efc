// IpcService: answers the processes that open ranges of this one. It runs on a
// thread of its own, which calls nothing of the program's and waits for no client
// while others ask.
//
// A range is pinned (Placed::pins) while a connection that got it is open, and no
// longer: the kernel closes it when its process ends, however that happens. Of
// clients that have not shown a handle yet it has 32 at most.
#pragma once

#include <vector>

#include "base/mutex.h"
#include "runtime/ipc_socket.h"
#include "runtime/ipc_wire.h"
#include "runtime/runtime.h"

namespace gpuroom {

class IpcService {
 public:
  // `self`: what a ticket has to say of the process.
  IpcService(Runtime& rt, IpcSocket listener, const IpcTicket& self)
      : rt_(rt), listener_(std::move(listener)), self_(self) {}

  // Serves until the program has closed the listening descriptor and everyone who
  // holds a range has gone.
  void Run();

  // Of any thread. The ticket of the range that holds `address`, which may be asked
  // for from now on; where small blocks share the range, of the one that begins at `address`. kNotFound: no
  // range does.
  Result<IpcTicket> Export(CUdeviceptr address);
  bool Listening() const { return listener_.Intact(); }
  const IpcTicket& self() const { return self_; }

  // Keeps the threads of all services out of the driver from now on, and waits a
  // moment for the one that is in it.
  static void StopAll();

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

  int Timeout() const;
  void Attend(Connection& connection, bool readable, uint64_t now);
  void AcceptAll();
  void DropOldestNewcomer();
  // These return false where the connection is to end.
  bool Answer(Connection& connection);
  bool Begin(Connection& connection, const IpcTicket& asked);
  bool SendBatch(Connection& connection);
  Status FillBatch(const Connection& connection, IpcBatch* batch, IpcDescriptors* descriptors);
  void Unpin(Connection& connection);
  template <typename Use>
  bool WithRange(uint64_t order, Use use);

  Runtime& rt_;
  const IpcSocket listener_;
  const IpcTicket self_;
  std::vector<Connection> connections_;
  uint64_t accept_after_ = 0;  // 0: now
};

}  // namespace gpuroom
