// IpcSocket: one end of a connection between two processes that share memory, in
// Linux's abstract namespace: no file, gone with its process. Messages keep their
// borders and may carry descriptors. Every wait has an end.
//
// It lives among the program's own descriptors, as OwnDescriptor says.
//
// One thread at a time.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <utility>

#include "base/status.h"
#include "runtime/ipc_wire.h"
#include "runtime/own_descriptor.h"

namespace gpuroom {

// How long one side waits for the other to answer.
inline constexpr uint64_t kIpcPatience = 5000000000;  // nanoseconds

// Whether a process of user `own` may share memory with one of user `peer`.
bool MaySharePeer(uid_t own, uid_t peer);

// Descriptors on their way; closes those that it still has.
struct IpcDescriptors {
  IpcDescriptors() = default;
  ~IpcDescriptors();
  IpcDescriptors(const IpcDescriptors&) = delete;
  IpcDescriptors& operator=(const IpcDescriptors&) = delete;

  std::array<int, kIpcBatch> fds{};
  uint32_t count = 0;
};

class IpcSocket {
 public:
  IpcSocket() = default;

  static Result<IpcSocket> Listen(uint64_t name);
  // Refuses a listener of another user. `deadline` as NowNanoseconds() counts.
  static Result<IpcSocket> Connect(uint64_t name, uint64_t deadline);
  // kNotFound: nobody is waiting. Refuses connections of other users.
  Result<IpcSocket> Accept() const;

  Status Send(const void* data, size_t size, const IpcDescriptors* descriptors = nullptr) const;
  // Waits for one message until `deadline`; 0: does not wait, kBusy where there is
  // none. The length of what arrived, 0 when the other side is gone.
  Result<size_t> Receive(void* data, size_t size, IpcDescriptors* descriptors, uint64_t deadline) const;

  // False where the program has closed or reused the descriptor.
  bool Intact() const { return own_.Intact(); }
  int fd() const { return own_.fd(); }
  void Close() { own_.Close(); }

 private:
  explicit IpcSocket(OwnDescriptor own) : own_(std::move(own)) {}
  bool PeerMayShare() const;

  OwnDescriptor own_;
};

}  // namespace gpuroom
